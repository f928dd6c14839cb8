import type { Core } from "./core.js";
import type { Connection } from "./link.js";
import type { PresenceError } from "./protocol/errors.js";
import { backoff, Bell, jitter } from "./timing.js";
import type { Watched } from "./watched.js";

/**
 * The pause before newly watched users are fetched a second time: longer than a subscription
 * takes to spread in a cluster of NATS servers.
 */
const CONFIRM_MS = 1_000;
/** The pauses between snapshots of everything while the client stays blind, until it was calm. */
const RESYNC_MS = 50;
const RESYNC_MOST_MS = 5_000;
const CALM_MS = 10_000;
/** The least time between two questions whether the journal went back, until it was calm. */
const DOUBT_MS = 1_000;
const DOUBT_MOST_MS = 4_000;
const DOUBT_CALM_MS = 60_000;
/** A user ID to ask about if only the answer's revision matters. */
const ASKED_ABOUT = "nobody";

const now = () => performance.now();

/**
 * Fetches what is watched: everything when the client is blind and once per `resync`, newly
 * watched users at once and a second time a moment later.
 */
export class Resync {
  readonly #core: Core;
  readonly #bell = new Bell();
  /** Newly watched users who are to be fetched at once. */
  readonly #soon = new Set<Watched>();
  /** When users are to be fetched a second time: the earliest first. */
  readonly #confirm = new Map<Watched, number>();
  #confirmLast = 0;
  /** When everything is to be fetched, live or not. */
  #everything: number;
  /** While blind, everything is not fetched before this. */
  #recover = 0;
  /** Since it was calm. */
  #attempts = 0;
  /** When to ask whether the journal went back, and when that was last asked. */
  #doubtDue = Infinity;
  #doubtAsked = -Infinity;
  #doubtWait = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#everything = now() + jitter(core.settings.resync);
    queueMicrotask(() => void this.#run().catch(() => {})); // it ends with the Presence
  }

  /** Something has changed, perhaps also what is next. */
  ring(): void {
    this.#bell.ring();
  }

  soon(user: Watched): void {
    this.#soon.add(user);
    this.ring();
  }

  confirm(user: Watched): void {
    this.#confirmLast = Math.max(this.#confirmLast, now() + jitter(CONFIRM_MS));
    this.#confirm.set(user, this.#confirmLast);
    this.ring();
  }

  forget(user: Watched): void {
    this.#soon.delete(user);
    this.#confirm.delete(user);
  }

  /**
   * Asks, in a moment, whether the journal went back to an earlier state: an answer or event is
   * older than what was known for a while (PROTOCOL 2).
   */
  doubtJournal(): void {
    if (this.#doubtDue < Infinity) return;
    if (now() - this.#doubtAsked > DOUBT_CALM_MS) this.#doubtWait = 0;
    this.#doubtDue = Math.max(now(), this.#doubtAsked + this.#doubtWait);
    this.ring();
  }

  async #run(): Promise<void> {
    const { life, link } = this.#core;
    for (;;) {
      const connection = link.current;
      const wait = connection ? this.#next() - now() : Infinity;
      if (wait > 0 || !connection) await this.#bell.wait(wait, life);
      else await this.#work(connection);
    }
  }

  /** When there is something to do. */
  #next(): number {
    const { state, doubted, hearing } = this.#core.watching;
    const dues = [this.#everything, this.#doubtDue];
    if (state.live) {
      dues.push(hearing.due, this.#confirm.values().next().value ?? Infinity);
    } else if (state.reason !== doubted) {
      dues.push(this.#recover);
    }
    if (this.#soon.size > 0 && (state.live || state.reason === doubted)) return 0;
    return Math.min(...dues);
  }

  async #work(connection: Connection): Promise<void> {
    const { watching, settings } = this.#core;
    if (this.#doubtDue <= now()) return this.#checkJournal(connection);
    watching.hearing.checkUnheard();
    const settled = watching.state.live || watching.state.reason === watching.doubted;
    if (settled && now() < this.#everything) return this.#fetchDue(connection);
    if (now() - this.#recover > CALM_MS) this.#attempts = 0;
    const whole = now() >= this.#everything;
    const refusal = await watching.hearing
      .repair(connection, settings.timeout)
      .catch((error: PresenceError) => error);
    if (refusal && !connection.scope.ended) watching.blind("refused", refusal);
    if (!refusal || whole) {
      const recovered = await this.#fetchAll(connection);
      this.#everything = now() + jitter(recovered ? CONFIRM_MS : settings.resync);
    }
    this.#recover = now() + backoff(this.#attempts++, RESYNC_MS, RESYNC_MOST_MS);
  }

  /** Takes a snapshot of everything. It reports whether that made a blind client live. */
  async #fetchAll(connection: Connection): Promise<boolean> {
    const { watching } = this.#core;
    const { merge, losses, hearing } = watching;
    const wasLive = watching.state.live;
    if (!wasLive && ["disconnected", "suspended"].includes(watching.state.reason)) {
      watching.setState({ live: false, reason: "resyncing" });
    }
    this.#soon.clear();
    if (!(await this.#fetch([...merge.users.keys()], connection, merge.epoch))) return false;
    if (watching.losses !== losses) return false; // this snapshot may be older than the loss
    const { error } = hearing;
    if (error) {
      watching.setState({ live: false, reason: "refused", error }); // no changes are heard
    } else if (watching.doubted !== undefined) {
      watching.setState({ live: false, reason: watching.doubted });
    } else {
      watching.setState({ live: true });
      return !wasLive;
    }
    return false;
  }

  /** Fetches those who are new, and those whose second time has come. */
  async #fetchDue(connection: Connection): Promise<void> {
    const users = new Set(this.#soon);
    this.#soon.clear();
    await this.#core.watching.hearing.hear(users, connection);
    for (const [user, due] of this.#confirm) {
      if (due > now()) break;
      this.#confirm.delete(user);
      users.add(user);
    }
    await this.#fetch([...users].map((user) => user.id), connection);
  }

  /** Takes a snapshot. If that fails the client is blind. */
  async #fetch(ids: string[], connection: Connection, begun?: string): Promise<boolean> {
    const { queries, settings, watching } = this.#core;
    const query = { fresh: true, current: true, patience: settings.timeout };
    try {
      watching.apply(await queries.fetch(ids, query, connection.scope), begun);
      return true;
    } catch (error) {
      if (!connection.scope.ended) watching.blind("fetch_failed", error as PresenceError);
      return false;
    }
  }

  /** Makes a fresh get, which shows whether the journal went back. */
  async #checkJournal(connection: Connection): Promise<void> {
    const { queries, settings } = this.#core;
    this.#doubtDue = Infinity;
    this.#doubtAsked = now();
    this.#doubtWait = Math.min(Math.max(2 * this.#doubtWait, DOUBT_MS), DOUBT_MOST_MS);
    const query = { fresh: true, current: true, patience: settings.timeout };
    // If it fails, the next doubt asks again.
    await queries.fetch([ASKED_ABOUT], query, connection.scope).catch(() => {});
  }
}
