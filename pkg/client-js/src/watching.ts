import type { Core } from "./core.js";
import { Hearing } from "./hearing.js";
import type { Connection } from "./link.js";
import { Merge } from "./merge.js";
import { Owner } from "./own.js";
import { checkUserIDs } from "./protocol/check.js";
import { PresenceError } from "./protocol/errors.js";
import { type GetReply, type Status, StatusType, type UserFailure } from "./protocol/messages.js";
import { Resync } from "./resync.js";
import type { Scope } from "./scope.js";
import type { Session } from "./session.js";
import { turn } from "./timing.js";
import type { BlindReason, State } from "./types.js";
import { type Observer, Watched } from "./watched.js";

/** Why a user is watched, besides `subscribe`: counted. */
type Reason = "holds" | "quiet";

/**
 * Everything that is watched, and what is known of it.
 *
 *     status.<user> ─► Hearing ─► Merge ─► Delivery ─► callbacks
 *     get ◄────────── Resync ────► ▲           ▲  └──► observers
 *     self.<user> ──────────────► Owner ───────┘
 */
export class Watching {
  readonly merge: Merge<Watched>;
  readonly hearing: Hearing;
  readonly resync: Resync;
  /** Users who have sessions here. */
  readonly owners = new Map<string, Owner>();
  state: State = Object.freeze({ live: false, reason: "disconnected" });
  /** How often something was lost: an older snapshot does not make the client live. */
  losses = 0;
  /** Why somebody outside doubts that events come. */
  doubted: string | undefined;
  /** Called when the client becomes live. */
  readonly onLive = new Set<() => void>();
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
    this.merge = new Merge<Watched>({
      tell: (user) => this.#tell(user),
      first: (user) => this.resync.confirm(user),
      epochChanged: () => this.blind("epoch_changed"),
      rewound: () => this.owners.forEach((owner) => owner.forget()),
    });
    this.hearing = new Hearing(core);
    this.resync = new Resync(core);
  }

  /** The copy of a user's status that can be trusted, or UNKNOWN. */
  status(userID: string): Status {
    const user = this.merge.users.get(userID);
    if (user?.fetched && this.state.live) return user.status!;
    return { userID, statusType: StatusType.UNKNOWN, customStatus: "", revision: 0 };
  }

  isVisible(userID: string): boolean {
    return this.merge.users.get(userID)?.visible ?? false;
  }

  /** Watches users for one more reason. They are fetched in a moment, if they are not known. */
  hold(userIDs: Iterable<string>, reason: Reason, observer?: Observer): void {
    for (const id of listOf(userIDs)) {
      const user = this.#admit(id);
      user[reason]++;
      if (observer) (user.observers ??= new Set()).add(observer);
      if (!user.fetched) this.resync.soon(user);
      else if (observer) observer(user.status!);
      else if (!user.told) this.#tell(user);
    }
  }

  /** Takes a reason away, and stops watching users for whom there is no other. */
  release(userIDs: Iterable<string>, reason: Reason, observer?: Observer): void {
    for (const id of userIDs) {
      const user = this.merge.users.get(id);
      if (!user) continue;
      if (user[reason] > 0) user[reason]--;
      if (observer) user.observers?.delete(observer);
      this.#reconsider(user);
    }
  }

  /**
   * Watches users until they are unsubscribed, and fetches them. It returns those who cannot be
   * watched. On an error it watches nobody, and earlier calls stay as they are.
   */
  async subscribe(userIDs: unknown, scope: Scope): Promise<UserFailure[]> {
    const { valid, failures } = checkUserIDs(userIDs);
    const { requests, queries } = this.#core;
    const users = valid.map((id) => this.#admit(id));
    for (const user of users) user.subscribing++;
    try {
      // Changes from here on come as events, and earlier ones are in the snapshot.
      await this.hearing.hear(users, await requests.connection(scope));
      scope.check();
      const pages = await queries.fetch(valid, { fresh: true, current: true }, scope);
      await turn(); // until what the broker refused before the answer was told
      const error = this.hearing.errorOf(users);
      if (error) throw error;
      const failed = this.apply(pages);
      for (const user of users) {
        if (user.subscribing === 0) continue; // unsubscribed meanwhile
        user.subscribing--;
        user.subscribed = true;
      }
      this.unsubscribe(failed);
      return [...failures, ...pages.flatMap((page) => page.failureUserList)];
    } catch (error) {
      for (const user of users) {
        if (user.subscribing > 0) user.subscribing--;
        this.#reconsider(user);
      }
      throw error;
    }
  }

  /** Ends subscriptions to users, also by calls under way. */
  unsubscribe(userIDs: Iterable<string> = this.merge.users.keys()): void {
    for (const id of userIDs) {
      const user = this.merge.users.get(id);
      if (!user) continue;
      user.subscribed = false;
      user.subscribing = 0;
      this.#reconsider(user);
    }
  }

  /** Merges a snapshot, and returns the users who could not be fetched. */
  apply(pages: readonly GetReply[], begun?: string): string[] {
    const { users } = this.merge;
    if (this.state.live) {
      for (const page of pages) {
        if (page.epoch !== this.merge.epoch) continue;
        for (const status of page.successUserList) {
          const user = users.get(status.userID);
          if (user) this.hearing.shown(user, status);
        }
      }
    }
    const failed = this.merge.snapshot(pages, begun);
    for (const page of pages) {
      for (const { userID } of page.successUserList) {
        const user = users.get(userID);
        if (user?.visible && !user.told) this.#tell(user);
      }
    }
    return failed;
  }

  /** Marks a loss: nothing is trusted until a snapshot has succeeded that was begun after it. */
  blind(reason: BlindReason, error?: PresenceError): void {
    this.losses++;
    // While blind, a new epoch is no new reason.
    if (reason !== "epoch_changed" || this.state.live) {
      this.setState({ live: false, reason, ...(error && { error }) });
    }
    if (reason === "dropped" || reason === "epoch_changed") this.owners.forEach((owner) => owner.miss());
    this.resync.ring();
  }

  setState(state: State): void {
    const old = this.state;
    if (old.live === true ? state.live : !state.live && isSame(old, state)) return;
    if (!old.live && old.reason === "closed") return;
    this.state = Object.freeze(state);
    this.#core.delivery.state(this.state);
    if (state.live) for (const call of this.onLive) call();
  }

  /** The journal went back to an earlier state: what was known up to a revision means nothing. */
  wentBack(epoch: string, revision: number): void {
    if (!this.#core.journal.forget(epoch, revision)) return;
    this.merge.wentBack(epoch);
    for (const session of this.#core.sessions) session.nudge(); // one that is forgotten logs in again
  }

  /** Blind while a reason is given, though everything goes on. */
  doubt(reason: string | undefined): void {
    const before = this.doubted;
    this.doubted = reason;
    if (reason !== undefined) this.blind(reason);
    else if (before !== undefined) this.blind("resyncing");
  }

  /** Takes note of a new connection. */
  up(connection: Connection): void {
    for (const owner of this.owners.values()) owner.listen(connection);
    this.resync.ring();
  }

  lost(reason: BlindReason): void {
    this.hearing.lost();
    this.blind(reason);
  }

  /** Listens to what the user's own devices are told, for a session that is about to log in. */
  own(session: Session): void {
    let owner = this.owners.get(session.userID);
    if (!owner) {
      owner = new Owner(this.#core, session.userID);
      this.owners.set(session.userID, owner);
    }
    owner.sessions.add(session);
  }

  /** Forgets a session that has ended, and the user after the last one. */
  disown(session: Session): void {
    const owner = this.owners.get(session.userID);
    if (!owner?.sessions.delete(session) || owner.sessions.size > 0) return;
    this.owners.delete(owner.id);
    this.#core.delivery.forgetOwn(owner.id);
    if (!this.isVisible(owner.id)) this.#core.delivery.forget(owner.id);
    owner.end();
  }

  close(): void {
    this.blind("closed");
    for (const owner of this.owners.values()) owner.end();
    this.owners.clear();
    this.merge.users.clear();
  }

  #admit(id: string): Watched {
    let user = this.merge.users.get(id);
    if (!user) this.merge.users.set(id, (user = new Watched(id)));
    return user;
  }

  /** Does what follows from a reason that is gone. */
  #reconsider(user: Watched): void {
    if (!user.visible) {
      user.told = false;
      this.#core.delivery.forget(user.id);
    }
    if (user.wanted || this.merge.users.get(user.id) !== user) return;
    this.merge.users.delete(user.id);
    this.hearing.end(user);
    this.resync.forget(user);
  }

  #tell(user: Watched): void {
    const status = Object.freeze(user.status!);
    if (user.visible) {
      user.told = true;
      this.#core.delivery.status(status);
    }
    if (user.observers) for (const observer of user.observers) observer(status);
  }
}

/** The IDs of a list or a set of users, each once. One that is not valid is an error. */
export function listOf(userIDs: Iterable<string>): string[] {
  const set = (userIDs as unknown) instanceof Set;
  const { valid, failures } = checkUserIDs(set ? [...userIDs] : userIDs);
  for (const { error, message } of failures) throw new PresenceError(error, message);
  return valid;
}

function isSame(a: State, b: State): boolean {
  return !a.live && !b.live && a.reason === b.reason && a.error?.message === b.error?.message;
}
