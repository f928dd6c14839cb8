import type { Subscription } from "@nats-io/nats-core";
import { askContacts, KnownContacts } from "./contacts.js";
import type { Core } from "./core.js";
import type { Connection } from "./link.js";
import { Known } from "./merge.js";
import { decode, readOwnStatusReply, readSelfEvent } from "./protocol/decode.js";
import { isPresenceError, PresenceError } from "./protocol/errors.js";
import type {
  AvailabilitySettings,
  ChangeReply,
  OwnStatusReply,
  SelfEvent,
  SessionInfo,
  Status,
} from "./protocol/messages.js";
import { BUSY_MOST_MS, BUSY_MS } from "./requests.js";
import { Scope } from "./scope.js";
import type { Session } from "./session.js";
import { backoff, Bell, jitter } from "./timing.js";
import type { Own } from "./types.js";

/** The pauses after failed fetches: they double from the first to the most. */
const RETRY_MS = 250;
const RETRY_MOST_MS = 15_000;
/** How often a subscription that the broker refuses is tried again. */
const REFUSED_MS = 5_000;
/** How often contacts are asked for again while the answer is older than an event. */
const CONTACTS_RETRIES = 3;

/** Asks for a user's own view. */
export function askOwn(core: Core, userID: string, scope: Scope): Promise<OwnStatusReply> {
  const subject = core.subjects.user(userID, "status");
  return core.requests.call({ subject, body: {}, read: readOwnStatusReply, repeatable: true }, scope);
}

/**
 * A user who has sessions here: the subscription to `self.<user>`, where all devices of the user
 * are told what changes, and what is known. It lasts from the first login to the end of the last
 * session.
 *
 *     self.<user> ─► merge ─► known ─► callbacks
 *                      │        ▲  └─► contacts are watched
 *               missed └─► fetch┘
 */
export class Owner {
  readonly sessions = new Set<Session>();
  own: Own | undefined;
  readonly #core: Core;
  readonly #life: Scope;
  readonly #bell = new Bell();
  #sub: Subscription | undefined;
  #refused = false;
  /** It was refused at the last attempt, too. */
  #refusedBefore = false;
  /** Something may have been missed: fetch. */
  #missed = false;
  /** Everything was fetched once in this epoch. */
  #complete = false;
  readonly #status = new Known();
  #availability: AvailabilitySettings = { lasting: "available" };
  #availabilityAsOf = 0;
  #sessions: SessionInfo[] = [];
  #sessionsAsOf = 0;
  readonly #contacts = new KnownContacts();
  #watched = new Set<string>();
  #told = "";

  readonly id: string;

  constructor(core: Core, id: string) {
    this.#core = core;
    this.id = id;
    this.#life = new Scope(core.life);
    if (core.link.current) this.listen(core.link.current);
    void this.#run().catch(() => {}); // it ends with #life
  }

  get status(): Status | undefined {
    return this.#status.status;
  }

  /** Subscribes on a connection. */
  listen(connection: Connection): void {
    const { nc, scope } = connection;
    this.#refused = false;
    this.#sub = nc.subscribe(this.#core.subjects.self(this.id), {
      callback: (error, msg) => {
        if (scope.ended) return;
        if (error) this.refuse();
        else this.#event(msg.data);
      },
    });
  }

  /** The broker refuses the subscription. It is made anew, at once if it was not refused before. */
  refuse(): void {
    this.#refused = true;
    if (!this.#refusedBefore) this.miss();
  }

  /** Makes everything be fetched. */
  miss(): void {
    this.#missed = true;
    this.#bell.ring();
  }

  /** Forgets all revisions: they are of an earlier epoch. */
  forget(): void {
    this.#status.forget();
    this.#availabilityAsOf = this.#sessionsAsOf = 0;
    this.#complete = false;
    this.miss();
  }

  end(): void {
    this.#life.end(new PresenceError("closed", "no session is left"));
    this.#sub?.unsubscribe();
    this.#core.watching.release(this.#watched, "holds");
  }

  /** Merges the owner's view in the reply to a change. */
  changed(reply: ChangeReply): void {
    this.#core.watching.merge.enter(reply.epoch);
    if (this.#status.snapshot(reply.status, reply.revision)) this.#tellStatus();
  }

  #event(data: Uint8Array): void {
    let event: SelfEvent;
    try {
      event = decode(data, readSelfEvent);
    } catch {
      return this.miss();
    }
    const { revision = 0 } = event;
    if (event.type === "kicked") {
      for (const session of this.sessions) {
        if (session.sessionID === event.sessionID) session.kicked(event.reason);
      }
    } else if (event.type === "contacts") {
      this.#contactsEvent(event);
    } else if (!event.epoch || !this.#core.watching.merge.sameEpoch(event.epoch)) {
      return;
    } else if (event.type === "status" && event.status?.userID === this.id) {
      this.#statusEvent(event.status);
    } else if (event.type === "availability" && event.availability && revision > this.#availabilityAsOf) {
      this.#availability = event.availability;
      this.#availabilityAsOf = revision;
      this.#tell();
    } else if (event.type === "sessions" && event.sessions && revision > this.#sessionsAsOf) {
      this.#takeSessions(event.sessions, revision);
      this.#tell();
    }
  }

  /**
   * When a user becomes ONLINE or stops being ONLINE, there is no event about sessions: these are
   * fetched.
   */
  #statusEvent(status: Status): void {
    const before = this.status?.statusType;
    if (!this.#status.event(status)) return;
    this.#tellStatus();
    if (status.statusType !== before) this.miss();
  }

  #contactsEvent(event: SelfEvent): void {
    const due = this.#contacts.event(event);
    if (due === "fetch") this.miss();
    if (due !== "changed") return;
    this.#follow();
    this.#tell();
  }

  #takeSessions(sessions: SessionInfo[], revision: number): void {
    this.#sessions = sessions;
    this.#sessionsAsOf = revision;
    for (const session of this.sessions) {
      const info = sessions.find((s) => s.sessionID === session.sessionID);
      if (info) session.see(info, this.#core.watching.merge.epoch, revision);
    }
  }

  /** Callbacks get the public status instead where the user is watched. */
  #tellStatus(): void {
    if (!this.#core.watching.isVisible(this.id)) this.#core.delivery.status(this.status!);
    this.#tell();
  }

  /** Gives callbacks the Own if it has changed, once all of it is known. */
  #tell(): void {
    if (!this.#complete || this.#life.ended) return;
    const own: Own = {
      userID: this.id,
      status: this.status!,
      availability: this.#availability,
      sessions: this.#sessions,
      contacts: this.#contacts.list,
      friendNotifications: this.#contacts.friendNotifications,
    };
    const told = JSON.stringify(own);
    if (told === this.#told) return;
    this.#told = told;
    this.own = JSON.parse(told) as Own; // callers may keep and change it
    this.#core.delivery.own(this.own);
  }

  /** Fetches what was missed until the last session has ended. */
  async #run(): Promise<void> {
    for (let failures = 0; ; ) {
      let wait = this.#core.settings.resync;
      try {
        if (this.#missed) await this.#fetch();
        failures = 0;
        if (this.#refusedBefore) wait = Math.min(wait, REFUSED_MS);
        wait = jitter(wait);
      } catch (error) {
        this.#life.check();
        this.#missed = true;
        const { retryAfterMs = 0 } = error as PresenceError;
        wait = Math.max(backoff(failures++, RETRY_MS, RETRY_MOST_MS), retryAfterMs);
      }
      if (!(await this.#bell.wait(wait, this.#life))) this.#missed = true;
    }
  }

  async #fetch(): Promise<void> {
    const { current } = this.#core.link;
    if (this.#refused && current) {
      this.#sub?.unsubscribe();
      this.listen(current);
    }
    this.#missed = false;
    const scope = new Scope(this.#life).within(
      this.#core.settings.patience,
      () => new PresenceError("timeout", "no answer in time"),
    );
    try {
      await this.#fetchStatus(scope);
      this.#refusedBefore = this.#refused;
      await this.#fetchContacts(scope).finally(() => {
        this.#complete = true; // even without contacts, if they cannot be had
        this.#tell();
      });
    } finally {
      scope.end(undefined);
    }
  }

  async #fetchStatus(scope: Scope): Promise<void> {
    const { journal, watching } = this.#core;
    const { epoch } = journal;
    // There may be no event about sessions but the one that makes them be fetched.
    let least = journal.written;
    if (epoch === watching.merge.epoch) {
      least = Math.max(least, this.#status.asOf, this.#availabilityAsOf, this.#sessionsAsOf);
    }
    const reply = await askOwn(this.#core, this.id, scope);
    if (reply.stale || (reply.epoch === epoch && reply.revision < least)) {
      if (!reply.stale) watching.resync.doubtJournal();
      const { revision } = reply;
      throw new PresenceError("unavailable", `the answer is of revision ${revision}, asked for was ${least}`);
    }
    this.#life.check();
    watching.merge.enter(reply.epoch);
    if (this.#status.snapshot(reply.status, reply.revision)) this.#tellStatus();
    if (reply.revision > this.#availabilityAsOf) {
      this.#availability = reply.availability;
      this.#availabilityAsOf = reply.revision;
    }
    if (reply.revision > this.#sessionsAsOf) this.#takeSessions(reply.sessions, reply.revision);
  }

  async #fetchContacts(scope: Scope): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const reply = await askContacts(this.#core, this.id, {}, scope).catch((error: unknown) => {
        if (!isPresenceError(error, "feature_disabled")) throw error;
        return { contacts: [], friendNotifications: false, version: 0 };
      });
      this.#life.check();
      if (this.#contacts.take(reply, attempt === CONTACTS_RETRIES)) return this.#follow();
      await scope.sleep(backoff(attempt, BUSY_MS, BUSY_MOST_MS));
    }
  }

  /** Watches the contacts, and stops watching those who are contacts no more. */
  #follow(): void {
    const { watching } = this.#core;
    const before = this.#watched;
    this.#watched = this.#contacts.watched;
    watching.hold([...this.#watched].filter((id) => !before.has(id)), "holds");
    watching.release([...before].filter((id) => !this.#watched.has(id)), "holds");
  }
}
