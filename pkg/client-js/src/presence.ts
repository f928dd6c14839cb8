import type { Core } from "./core.js";
import { Delivery } from "./delivery.js";
import { Journal } from "./journal.js";
import { Link } from "./link.js";
import { checkUserIDs } from "./protocol/check.js";
import { PresenceError } from "./protocol/errors.js";
import type { Status, UserFailure as WireFailure } from "./protocol/messages.js";
import { Subjects } from "./protocol/subjects.js";
import { Queries } from "./queries.js";
import { Requests } from "./requests.js";
import { Scope } from "./scope.js";
import { Session } from "./session.js";
import { Stream, until } from "./stream.js";
import type {
  CallOptions,
  GetOptions,
  GetResult,
  LoginOptions,
  PresenceEvents,
  PresenceOptions,
  Settings,
  State,
  UserFailure,
} from "./types.js";
import { Watching } from "./watching.js";

/** How many calls may be under way. More are `overloaded`: nothing was done. */
const MOST_CALLS = 1_000;
/** How long `close` waits for a connection to log out over. */
const RECONNECT_MS = 500;

/** The parts of a Presence, for the package's own sub-paths. */
export let coreOf: (presence: Presence) => Core;

/**
 * Uses the presence service over connections of its own.
 *
 *     await using presence = new Presence({ connect: wsconnect, options: { servers: "wss://…" } });
 *     const session = await presence.login("alice", { platform: "web" });
 *     await session.setStatus("in a meeting", { expiresIn: 3600 });
 *     presence.on("status", (list) => …);
 *     await presence.subscribe(["bob", "carol"]);
 *
 * It begins to connect at once, and goes on without limit until `close`. While there is no
 * connection calls wait, at most for `patience`; the state is blind, and watched users are
 * UNKNOWN. On each new connection sessions log in again with their IDs, and everything watched is
 * fetched anew. Every call settles: its error is a PresenceError, or the reason of its signal.
 *
 * `overloaded` and `unavailable` are tried again until `patience` ends. What had no answer may be
 * done: queries, logins, renewals and logouts are repeated, changes are `outcome_unknown`.
 */
export class Presence {
  readonly #core: Core;
  static {
    coreOf = (presence) => presence.#core;
  }
  #calls = 0;
  #closing: Promise<void> | undefined;

  /** Throws `invalid_request` where the prefix or an option is not valid. */
  constructor(options: PresenceOptions) {
    const settings = checkOptions(options);
    // The parts know each other by the core: each is made before the first of them is used.
    const core = (this.#core = {
      settings,
      subjects: new Subjects(settings.prefix),
      life: new Scope(),
      journal: new Journal(),
      delivery: new Delivery(),
      sessions: new Set<Session>(),
      gateways: new Set(),
      run: (bounds, call) => this.#run(bounds, call),
      wrote: (epoch, revision) => {
        if (core.journal.note(epoch, revision)) core.watching.resync.doubtJournal();
        core.journal.wrote(epoch, revision);
      },
      changed: (reply) => {
        core.wrote(reply.epoch, reply.revision);
        core.watching.owners.get(reply.status.userID)?.changed(reply);
      },
    } as Core) as { -readonly [K in keyof Core]: Core[K] };
    core.queries = new Queries(core);
    core.watching = new Watching(core);
    core.link = new Link(settings, {
      up: (connection) => core.watching.up(connection),
      lost: () => {
        core.watching.lost(core.link.suspended ? "suspended" : "disconnected");
        for (const session of core.sessions) session.nudge();
      },
      failed: (error) => core.watching.blind("disconnected", error),
      error: (error) => {
        if (/maximum subscriptions/i.test(error.message)) core.watching.hearing.crowd(error);
      },
    });
    core.requests = new Requests(core.link, settings);
  }

  /** Waits for the first connection. What fails meanwhile is in `state`. */
  async connected(options?: CallOptions): Promise<void> {
    await this.#run(options, (scope) => this.#core.requests.connection(scope));
  }

  /** Whether the copies of statuses can be trusted. */
  get state(): State {
    return this.#core.watching.state;
  }

  /** The open sessions. */
  get sessions(): ReadonlySet<Session> {
    return this.#core.sessions;
  }

  /**
   * Opens a session, or resumes the one with its ID, and keeps it alive. On an error it may have
   * been opened all the same: then it is lost after its TTL.
   */
  login(userID: string, options?: LoginOptions): Promise<Session> {
    return this.#run(options, async (scope) => {
      const session = await Session.open(this.#core, userID, options ?? {}, scope);
      if (!this.#closing) return session;
      await session.leave(scope).catch(() => {}); // close did not see it
      throw closed();
    });
  }

  /**
   * Asks for any number of users, in pages of 500. The result includes all changes that were made
   * by this Presence before. IDs that are not valid are among its failures.
   */
  async get(userIDs: readonly string[], options?: GetOptions): Promise<GetResult> {
    const { fresh, detail } = options ?? {};
    return this.#run(options, async (scope) => {
      const { valid, failures } = checkUserIDs(userIDs);
      const pages = await this.#core.queries.fetch(valid, { fresh, detail }, scope);
      const lowest = pages.reduce((a, b) => (b.revision < a.revision ? b : a), pages[0]!);
      return {
        statuses: pages.flatMap((page) => page.successUserList),
        failures: inOrder(userIDs, [...failures, ...pages.flatMap((page) => page.failureUserList)]),
        revision: lowest?.revision ?? 0,
        epoch: lowest?.epoch ?? "",
        stale: pages.some((page) => page.stale),
      };
    });
  }

  /**
   * Watches users until they are unsubscribed, and fetches their statuses; there is no limit to
   * their number. It returns who cannot be watched. On an error this call watches nobody, and
   * earlier calls stay as they are. To subscribe to a user twice is the same as once.
   */
  subscribe(userIDs: readonly string[], options?: CallOptions): Promise<{ failures: UserFailure[] }> {
    return this.#run(options, async (scope) => ({
      failures: inOrder(userIDs, await this.#core.watching.subscribe(userIDs, scope)),
    }));
  }

  /**
   * Ends subscriptions to users; without a list it ends all. No callback that begins later has
   * their statuses, unless they are watched for another reason. IDs that are not valid are
   * failures; users who are not watched are not.
   */
  unsubscribe(
    userIDs?: readonly string[],
    options?: CallOptions,
  ): Promise<{ failures: UserFailure[] }> {
    return this.#run(options, () => {
      if (userIDs === undefined) {
        this.#core.watching.unsubscribe();
        return Promise.resolve({ failures: [] });
      }
      const { valid, failures } = checkUserIDs(userIDs);
      this.#core.watching.unsubscribe(valid);
      return Promise.resolve({ failures: inOrder(userIDs, failures) });
    });
  }

  /**
   * Watches users, counted beside `subscribe`: each `hold` of a user needs a `release`. It waits
   * for nothing: the users are fetched in a moment. One ID that is not valid throws, and then
   * nobody is held.
   */
  hold(userIDs: Iterable<string>): void {
    this.#check();
    this.#core.watching.hold(userIDs, "holds");
  }

  /** Takes back a `hold`. Users who are not held are no error. */
  release(userIDs: Iterable<string>): void {
    this.#core.watching.release(userIDs, "holds");
  }

  /**
   * The statuses of users: first those of now, as they are fetched, then each change. While the
   * loop does something else only the latest of each user is kept. It ends with the loop, throws
   * the signal's reason when that is aborted, and `closed` when the Presence is. `on("status")`
   * does not hear of users who are watched only by this.
   */
  watch(userIDs: Iterable<string>, options?: CallOptions): AsyncIterableIterator<Status> {
    this.#check();
    return new Stream(this.#core, userIDs, options);
  }

  /**
   * Waits until a status of one of the users is as wanted, and returns it. It misses no status
   * while it is connected, however short, and waits while blind. It waits without limit unless
   * `patience` is given. `on("status")` does not hear of users who are only awaited.
   */
  until(
    userIDs: Iterable<string>,
    wanted: (status: Status) => boolean,
    options?: CallOptions,
  ): Promise<Status> {
    return this.#run({ patience: Infinity, ...options }, (scope) => until(this.#core, userIDs, wanted, scope));
  }

  /**
   * The local copy of a watched user's status. It is UNKNOWN while there is no copy to trust: the
   * user is not watched, or not fetched yet, or the client is blind.
   */
  watched(userID: string): Status {
    return this.#core.watching.status(userID);
  }

  /**
   * Calls f, in tasks of its own, until the returned function is called:
   *
   * - `status`: the status of each watched user once as it is first fetched, then each change. Of
   *   many changes of one user only the last one may come. Statuses of users who have a session
   *   here come too, in the owner's view unless they are watched.
   * - `own`: what a user who has a session here sees of the own state, once after the login, then
   *   whenever something in it changes, on any device. f must not change back what it gets: two
   *   devices that did would overwrite each other for ever.
   * - `state`: live, or blind and why. The statuses that led to it come before it.
   */
  on<E extends keyof PresenceEvents>(event: E, f: (value: PresenceEvents[E]) => void): () => void {
    if (!["status", "own", "state"].includes(event) || typeof f !== "function") {
      throw invalid("on takes status, own or state, and a function");
    }
    return this.#core.delivery.on(event, f);
  }

  /**
   * Logs out the open sessions, at most for `timeout`, and closes the connection. Calls under way
   * reject with `closed`. Callbacks that are due do not run any more.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // What follows is for who knows more of the program's life than the Presence, such as a page.

  /** Drops the connection at once, and makes none until `resume`. Sessions are not logged out. */
  suspend(): void {
    this.#core.link.suspend();
  }

  /** Connects anew after `suspend`. Sessions go on with their IDs. */
  resume(): void {
    this.#core.link.resume();
  }

  /** This connection is no good: makes another now. */
  reconnect(reason = "another connection was asked for"): void {
    this.#core.link.reconnect(reason);
  }

  /**
   * Asks the broker for a sign of life. Without an answer within the limit, in ms, the connection
   * is replaced. While there is none, the next attempt begins at once.
   */
  probe(limit = 2_000): Promise<boolean> {
    return this.#core.link.probe(limit);
  }

  /** Makes the state blind while a reason is given, though everything goes on. */
  doubt(reason?: string): void {
    this.#core.watching.doubt(reason);
  }

  /** Runs a call within its bounds. */
  async #run<T>(options: CallOptions | undefined, call: (scope: Scope) => Promise<T>): Promise<T> {
    this.#check();
    const { signal, patience = this.#core.settings.patience } = options ?? {};
    if (!isAtLeast(patience, 0)) throw invalid("patience must be a number of milliseconds");
    if (signal && typeof signal.addEventListener !== "function") throw invalid("signal must be an AbortSignal");
    if (signal?.aborted) throw signal.reason;
    if (this.#calls >= MOST_CALLS) {
      throw new PresenceError("overloaded", `${MOST_CALLS} calls are under way`);
    }
    const scope = new Scope(this.#core.life)
      .follow(signal)
      .within(patience, () => new PresenceError("timeout", `not done within ${patience} ms`));
    this.#calls++;
    try {
      return await call(scope);
    } finally {
      this.#calls--;
      scope.end(undefined);
    }
  }

  #check(): void {
    if (this.#closing) throw closed();
  }

  async #close(): Promise<void> {
    const core = this.#core;
    const end = closed();
    const within = core.link.current ? core.settings.timeout : Math.min(core.settings.timeout, RECONNECT_MS);
    const scope = new Scope().within(within, () => end);
    await Promise.allSettled([...core.sessions, ...core.gateways].map((one) => one.leave(scope)));
    scope.end(end);
    core.delivery.close();
    core.watching.close();
    core.life.end(end);
    core.link.close(end);
  }
}

const closed = () => new PresenceError("closed", "the Presence is closed");
const invalid = (message: string) => new PresenceError("invalid_request", message);

const isAtLeast = (n: unknown, least: number) => typeof n === "number" && n >= least;

function checkOptions(options: PresenceOptions): Settings {
  if (typeof options?.connect !== "function") {
    throw invalid("options.connect must be a function that connects to NATS, such as wsconnect");
  }
  const { connect, options: connection, prefix = "presence.v1" } = options;
  const times = { timeout: 5_000, patience: 30_000, probe: 10_000, resync: 60_000 };
  for (const name of Object.keys(times) as (keyof typeof times)[]) {
    const ms = options[name] ?? times[name];
    if (!isAtLeast(ms, name === "probe" ? 0 : 1)) throw invalid(`${name} must be a number of milliseconds`);
    times[name] = ms;
  }
  return { connect, options: connection, prefix, ...times };
}

/** Failures in the order asked. */
function inOrder(userIDs: readonly string[], failures: readonly WireFailure[]): UserFailure[] {
  if (failures.length === 0) return [];
  const byID = new Map(failures.map((f) => [f.userID, f]));
  return [...new Set(userIDs)].flatMap((id) => {
    const f = byID.get(id);
    return f ? [{ userID: id, code: f.error, status: f.code, message: f.message }] : [];
  });
}
