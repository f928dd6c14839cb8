import { readStatus } from "./protocol/decode.js";
import type { Event, GetReply, Status } from "./protocol/messages.js";

/**
 * What is known of one user as of a revision (PROTOCOL 2, Merging). An event has a revision of
 * its own, a snapshot the revision of its reply. What is not newer is ignored, so events may come
 * late, twice, in any order, and before the snapshot.
 */
export class Known {
  status: Status | undefined;
  asOf = 0;
  /**
   * A snapshot came. Before that an event may be old: the change after it may have been announced
   * before anybody listened.
   */
  fetched = false;
  /** The status is of an earlier epoch, and callbacks have had it. */
  anew = false;

  /** Merges the status of an event, and reports whether callbacks are to have it. */
  event(status: Status): boolean {
    if (status.revision <= this.asOf) return false;
    this.#set(status, status.revision);
    this.anew = false;
    return this.fetched;
  }

  /**
   * Merges a status that was fetched as of a revision, and reports whether callbacks are to have
   * it: the first time always, then if its last visible change is another one.
   */
  snapshot(status: Status, asOf: number): boolean {
    const { status: old, fetched, anew } = this;
    this.fetched = true;
    this.anew = false;
    // An empty journal is at revision 0. Revisions of two epochs cannot be compared.
    if (!old || anew || asOf > this.asOf) this.#set(status, asOf);
    if (anew) return JSON.stringify(old) !== JSON.stringify(status);
    return !fetched || this.status?.revision !== old?.revision;
  }

  /** Forgets the revision. The status is kept, to compare the next snapshot with it. */
  forget(): void {
    this.anew ||= this.fetched;
    this.asOf = 0;
    this.fetched = false;
  }

  #set(status: Status, asOf: number): void {
    this.status = status;
    this.asOf = asOf;
  }
}

/** What {@link Merge} makes its owner do. */
export interface MergeEffects<U extends Known> {
  /** Callbacks are to have the user's new status. */
  tell(user: U): void;
  /** A user was fetched for the first time: fetch once more, a moment later. */
  first(user: U): void;
  /**
   * The journal is another one, or went back: the client is blind until a snapshot of everybody
   * that begins from now on.
   */
  epochChanged(): void;
  /** Everything known counts as of an earlier epoch from now on. */
  rewound(): void;
}

/**
 * The users who are watched, with the one epoch that all of their revisions are of. It decides
 * what an event or a snapshot changes (PROTOCOL 2 and 5), without connection and without time.
 */
export class Merge<U extends Known> {
  /** The epoch of all revisions; empty before the first event or snapshot. */
  epoch = "";
  /** Those who are watched, by their IDs. The owner adds and deletes them. */
  readonly users = new Map<string, U>();
  readonly #effects: MergeEffects<U>;

  constructor(effects: MergeEffects<U>) {
    this.#effects = effects;
  }

  /**
   * Merges an event from the subject of a user. It reports whether the event is about somebody
   * who is watched, in the epoch that is known. Otherwise it is ignored.
   */
  event(userID: string, event: Event): boolean {
    const user = this.users.get(userID);
    if (event.userID !== userID || !user || !this.sameEpoch(event.epoch)) return false;
    if (user.event(readStatus(event))) this.#effects.tell(user);
    return true;
  }

  /**
   * Reports whether an event is of the known epoch. Otherwise it is of a new one, or a late event
   * of an old one: a snapshot decides.
   */
  sameEpoch(epoch: string): boolean {
    this.epoch ||= epoch;
    if (epoch !== this.epoch) this.#effects.epochChanged();
    return epoch === this.epoch;
  }

  /**
   * Merges a snapshot, and returns those who could not be fetched. A snapshot of everybody gives
   * the epoch in which it was begun. If that is still the known one, nothing else has to be
   * fetched when the snapshot brings another.
   */
  snapshot(pages: readonly GetReply[], begun?: string): string[] {
    const failed: string[] = [];
    let entered = false;
    for (const page of pages) {
      const whole = this.epoch === begun;
      if (this.enter(page.epoch, whole) && whole) {
        entered = true;
        begun = page.epoch;
      }
      for (const status of page.successUserList) this.#fetched(status, page.revision);
      for (const { userID } of page.failureUserList) {
        const user = this.users.get(userID);
        if (user) user.fetched = user.anew = false;
        failed.push(userID);
      }
    }
    // Who is watched only since the snapshot was begun is not in it.
    if (entered && [...this.users.values()].some((user) => user.anew)) this.#effects.epochChanged();
    return failed;
  }

  #fetched(status: Status, asOf: number): void {
    const user = this.users.get(status.userID);
    if (!user) return;
    if (!user.fetched && !user.anew) this.#effects.first(user);
    if (user.snapshot(status, asOf)) this.#effects.tell(user);
  }

  /**
   * Takes the epoch of an answer, and reports whether it replaces another. Then what was known
   * does not count any more. Unless the answer is a snapshot of everybody, one is needed.
   */
  enter(epoch: string, whole = false): boolean {
    if (epoch === this.epoch) return false;
    const entered = this.epoch !== "";
    this.epoch = epoch;
    if (entered) {
      this.#rewind();
      if (!whole) this.#effects.epochChanged();
    }
    return entered;
  }

  /** The journal went back within an epoch: its revisions do not count any more. */
  wentBack(epoch: string): void {
    if (epoch === this.epoch) this.#rewind();
    this.#effects.epochChanged();
  }

  #rewind(): void {
    for (const user of this.users.values()) user.forget();
    this.#effects.rewound();
  }
}
