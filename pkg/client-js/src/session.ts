import { Contacts } from "./contacts.js";
import type { Core } from "./core.js";
import type { Connection } from "./link.js";
import { Logins } from "./logins.js";
import { askOwn } from "./own.js";
import { checkID, checkSet } from "./protocol/check.js";
import { readChangeReply, readLoginReply, type Reader } from "./protocol/decode.js";
import { isPresenceError, PresenceError } from "./protocol/errors.js";
import type {
  Availability,
  LogoutRequest,
  OwnStatusReply,
  SessionInfo,
  SetRequest,
  Status,
} from "./protocol/messages.js";
import type { UserOp } from "./protocol/subjects.js";
import type { Ask } from "./requests.js";
import { Scope } from "./scope.js";
import { backoff, Bell, jitter, Turns } from "./timing.js";
import type { CallOptions, LoginOptions, Own, SetOptions } from "./types.js";

/** Spreads the logins after a reconnect; well below the grace of 5 s of a closed connection. */
const REBIND_MS = 500;
/** The first pause after a failed renewal. No pause is longer than the regular one. */
const RETRY_MS = 250;

/** Why a session was ended by somebody else (PROTOCOL 5). */
export type EndReason = "kicked" | "replaced" | "logout" | "erased";

const endWords: Record<EndReason, string> = {
  replaced: "a later login of its device has replaced the session",
  kicked: "an operator has ended the session",
  logout: "the user has logged it out for good, or logged out everywhere",
  erased: "the user was erased",
};

/**
 * One login of one device, kept alive until `logout`. It renews its lease every third of the TTL.
 * It logs in again on each new connection, and when the service has lost it. It stays idle or not
 * as was last wanted. Texts and availability are the service's: it sets none again.
 *
 * It ends by itself when it was kicked, erased, logged out with all others, or replaced by a later
 * login of its device (`session_replaced`), and never logs in again then: two devices would
 * replace each other for ever. If another client binds the session to its own connection, as a
 * duplicated tab does, it goes on under another ID.
 */
export class Session {
  readonly userID: string;
  /**
   * Resolves once, when the session has ended: to undefined after `logout` or `close`, else to
   * why. It never rejects.
   */
  readonly ended: Promise<PresenceError | undefined>;
  /** Whom the user knows. */
  readonly contacts: Contacts;
  readonly #core: Core;
  readonly #logins: Logins;
  readonly #options: LoginOptions;
  /** No further request is begun after it. */
  readonly #life: Scope;
  /** Interrupts requests of #keep. */
  readonly #requests: Scope;
  readonly #bell = new Bell();
  /** Requests are not ordered among each other: login, renewal and logout come one by one. */
  readonly #turns = new Turns();
  #settle!: (why: PresenceError | undefined) => void;
  #why: PresenceError | undefined;
  #endReason: EndReason | undefined;
  #leaving: Promise<void> | undefined;
  #idle: boolean;
  /** The idleness that the service has last acknowledged, if no other may have been set since. */
  #said: boolean | undefined;
  /** Of the last login. */
  #connection: Connection | undefined;
  #ttl = 30;
  #grace = 5;

  private constructor(core: Core, userID: string, options: LoginOptions) {
    this.#core = core;
    this.userID = userID;
    this.#options = options;
    this.#idle = options.idle ?? false;
    this.#logins = new Logins(options);
    this.#life = new Scope(core.life);
    this.#requests = new Scope(core.life);
    this.contacts = new Contacts(core, userID);
    this.ended = new Promise((resolve) => (this.#settle = resolve));
  }

  /** @internal Logs a user in. On an error the session may be open all the same, until its TTL. */
  static async open(core: Core, userID: string, options: LoginOptions, scope: Scope): Promise<Session> {
    core.subjects.user(userID, "login"); // throws if the ID is not valid
    const session = new Session(core, userID, options);
    // Listen first: the end of the session may come before the answer to the login.
    core.watching.own(session);
    try {
      await session.#inTurn(scope, () => session.#login(scope));
      scope.check();
      if (session.#why) throw session.#why;
    } catch (error) {
      session.#end(error as PresenceError);
      throw error;
    }
    core.sessions.add(session);
    void session.#keep();
    return session;
  }

  /** It changes if another client binds the session to its own connection. */
  get sessionID(): string {
    return this.#logins.id;
  }

  get ttlSeconds(): number {
    return this.#ttl;
  }

  /** How long the session outlives its closed connection. */
  get graceSeconds(): number {
    return this.#grace;
  }

  /** Nobody is at the device, as was last wanted. */
  get idle(): boolean {
    return this.#idle;
  }

  /** Why somebody ended the session, if the service has told. */
  get endReason(): EndReason | undefined {
    return this.#endReason;
  }

  /** The owner's view, as far as it is known. */
  get status(): Status | undefined {
    return this.#core.watching.owners.get(this.userID)?.status;
  }

  /** What is known of the user on all devices, as `on("own")` tells it. */
  get own(): Own | undefined {
    return this.#core.watching.owners.get(this.userID)?.own;
  }

  /**
   * Sets the user's custom status, or clears it with an empty text. It returns the owner's view.
   * It is refused unless this session is live. After `outcome_unknown`, also for a missing answer,
   * the change may be done, now or later, and is not repeated.
   */
  async setStatus(customStatus: string, options?: SetOptions): Promise<Status> {
    const { expiresIn: expiresInSeconds, ifRevision } = options ?? {};
    return this.set({ customStatus, expiresInSeconds, ifRevision }, options);
  }

  /**
   * Sets how the user wants to be reached: the lasting value or, with `expiresIn`, an override of
   * it. Otherwise it is like `setStatus`.
   */
  async setAvailability(availability: Availability, options?: SetOptions): Promise<Status> {
    const { expiresIn: availabilityExpiresInSeconds, ifRevision } = options ?? {};
    return this.set({ availability, availabilityExpiresInSeconds, ifRevision }, options);
  }

  /** Sets a text and an availability by one change (PROTOCOL 4.4). */
  set(change: Omit<SetRequest, "sessionID">, options?: CallOptions): Promise<Status> {
    return this.#run(options, async (scope) => {
      checkSet(change);
      const once = async () => {
        const ask = this.#ask("set", { ...change, sessionID: this.sessionID }, readChangeReply, false);
        const reply = await this.#core.requests.call(ask, scope);
        this.#core.changed(reply);
        return reply.status;
      };
      try {
        return await once();
      } catch (error) {
        if (!isPresenceError(error, "session_not_found")) throw error;
        await this.#inTurn(scope, () => this.#login(scope));
        return once();
      }
    });
  }

  /** Says whether somebody is at the device. If it fails, the next renewal does it. */
  setIdle(idle: boolean, options?: CallOptions): Promise<void> {
    if (typeof idle !== "boolean") {
      return Promise.reject(new PresenceError("invalid_request", "idle must be true or false"));
    }
    return this.#run(options, (scope) => {
      this.#idle = idle;
      return this.#inTurn(scope, () => this.#renew(scope));
    });
  }

  /** Asks for the user's own view, with the sessions on all devices (PROTOCOL 4.5). */
  read(options?: CallOptions): Promise<OwnStatusReply> {
    return this.#core.run(options, (scope) => askOwn(this.#core, this.userID, scope));
  }

  /**
   * Logs the session out, or with `all` every session of the user. If that does not succeed, this
   * session has ended all the same, and the service loses it after its TTL. To log out a session
   * that has ended does nothing. A second call waits for the first.
   */
  logout({ all, ...options }: CallOptions & { all?: boolean | undefined } = {}): Promise<void> {
    if (this.#why) return Promise.resolve();
    this.#leaving ??= this.#core
      .run(options, (scope) => this.#leave(all ?? false, scope))
      .finally(() => this.#end(undefined));
    return this.#leaving;
  }

  /**
   * Signs another device of the user out for good: its session is `session_replaced` for 24 hours.
   * `session_not_found` says that nothing was ended for good. Either that session is not there, or
   * it was logged out, but an instance of an earlier version runs, so it may log in again.
   */
  logoutOther(sessionID: string, options?: CallOptions): Promise<void> {
    return this.#run(options, async (scope) => {
      const body: LogoutRequest = { sessionID: checkID(sessionID), final: true };
      const reply = await this.#core.requests.call(this.#ask("logout", body, readChangeReply), scope);
      this.#core.changed(reply);
      if (!reply.final) throw new PresenceError("session_not_found", "nothing was ended for good: the session is not there, or the service is being upgraded");
    });
  }

  /** Logs the session out. Errors are left to the TTL. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.logout().catch(() => {});
  }

  /** @internal Logs out, when the Presence is closed. */
  leave(scope: Scope): Promise<void> {
    this.#leaving ??= this.#leave(false, scope).finally(() => this.#end(undefined));
    return this.#leaving;
  }

  /** @internal Makes it renew now, or log in where the connection is a new one. */
  nudge(): void {
    this.#bell.ring();
  }

  /** @internal An event says that somebody has ended the session. */
  kicked(reason: EndReason | undefined): void {
    if (this.#leaving) return;
    this.#endReason = reason;
    const words = (reason && endWords[reason]) ?? `the session was ended: ${reason}`;
    this.#end(new PresenceError("session_replaced", words));
  }

  /** @internal Takes in what the service says of the session. */
  see(info: SessionInfo, epoch: string, revision: number): void {
    if (this.#logins.see(info, epoch, revision)) this.#bell.ring();
  }

  /** A request about the user. */
  #ask<T>(op: UserOp, body: object, read: Reader<T>, repeatable = true): Ask<T> {
    return { subject: this.#core.subjects.user(this.userID, op), body, read, repeatable };
  }

  /** Runs a caller's call, unless the session has ended. */
  async #run<T>(options: CallOptions | undefined, call: (scope: Scope) => Promise<T>): Promise<T> {
    this.#check();
    try {
      return await this.#core.run(options, call);
    } catch (error) {
      throw this.#judge(error);
    }
  }

  /** Throws why the session has ended. */
  #check(): void {
    if (this.#why) throw this.#why;
    if (this.#leaving) throw loggedOut();
  }

  /** Ends the session if an error says that it was replaced, and returns the error. */
  #judge(error: unknown): unknown {
    if (isPresenceError(error, "session_replaced")) this.#end(error);
    return error;
  }

  async #leave(all: boolean, scope: Scope): Promise<void> {
    this.#life.end(loggedOut());
    const body: LogoutRequest = all ? { all } : { sessionID: this.sessionID };
    // The logout must not overtake a login under way.
    await this.#turns.run(scope, async () => {
      const ask = this.#ask("logout", body, readChangeReply);
      this.#core.changed(await this.#core.requests.call(ask, scope));
    });
  }

  /** Ends the session, once. */
  #end(why: PresenceError | undefined): void {
    if (this.#why) return;
    this.#why = why ?? loggedOut();
    this.#life.end(this.#why);
    this.#requests.end(this.#why);
    this.#core.sessions.delete(this);
    this.#core.watching.disown(this);
    this.#settle(why);
  }

  /** Makes a request, with retries, while no other login, renewal or logout is under way. */
  #inTurn(scope: Scope, attempt: () => Promise<void>): Promise<void> {
    return this.#turns.run(scope, () => {
      this.#check();
      return this.#core.requests.retry(true, scope, attempt);
    });
  }

  /** Keeps the session alive until it has ended. */
  async #keep(): Promise<void> {
    for (let wait = this.#interval(), failures = 0; ; ) {
      try {
        await this.#bell.wait(wait, this.#life);
        await this.#core.link.wait(this.#life);
        if (this.#mustLogIn) await this.#life.sleep(jitter(REBIND_MS));
        await this.#beat();
        failures = 0;
        wait = this.#interval();
      } catch (error) {
        if (this.#life.ended) break;
        this.#judge(error);
        const { retryAfterMs = 0 } = error as PresenceError;
        wait = Math.max(backoff(failures++, RETRY_MS, this.#interval()), retryAfterMs);
      }
    }
    // The Presence may have been closed.
    if (!this.#leaving) this.#end(this.#life.reason as PresenceError);
  }

  /** Renews the session, or logs it in. It must be over before the next time. */
  async #beat(): Promise<void> {
    const scope = new Scope(this.#requests).within(
      this.#interval(),
      () => new PresenceError("timeout", "no answer before the next renewal"),
    );
    try {
      await this.#turns.run(scope, async () => {
        this.#life.check();
        await (this.#mustLogIn ? this.#login(scope) : this.#renew(scope));
      });
    } finally {
      scope.end(undefined);
    }
  }

  get #mustLogIn(): boolean {
    return this.#logins.news !== undefined || (this.#connection?.scope.ended ?? true);
  }

  /** Makes one attempt to extend the lease. A session that is forgotten is logged in again. */
  async #renew(scope: Scope): Promise<void> {
    const idle = this.#idle;
    const ask = this.#ask("renew", { sessionID: this.sessionID, idle }, readChangeReply);
    try {
      const reply = await this.#core.requests.once(ask, scope);
      this.#said = idle;
      this.#core.changed(reply);
    } catch (error) {
      if (isPresenceError(error, "session_not_found")) return this.#login(scope);
      // The lease is extended all the same: only the answer was refused (PROTOCOL 6). To ask again
      // at once would add to the load.
      if (isPresenceError(error, "overloaded", "rate_limited") && idle === this.#said) return;
      if (idle !== this.#said) this.#said = undefined; // it may have been done
      throw error;
    }
  }

  /**
   * Makes one attempt to open or resume the session, bound to the current connection. If that is
   * lost before the reply comes, #keep logs in once more.
   */
  async #login(scope: Scope): Promise<void> {
    const connection = await this.#core.requests.connection(scope);
    const idle = this.#idle;
    const bindTo = this.#options.unbound ? undefined : connection.identity;
    const body = await scope.wait(this.#logins.next(idle, bindTo));
    const reply = await this.#core.requests.once(this.#ask("login", body, readLoginReply), scope);
    this.#logins.done(reply.epoch, reply.revision);
    this.#connection = connection;
    this.#said = idle;
    this.#ttl = reply.ttlSeconds || this.#ttl;
    this.#grace = reply.graceSeconds;
    this.#core.changed(reply);
    this.#core.watching.owners.get(this.userID)?.miss(); // what happened before it
  }

  /** The jittered time to the next renewal: at most a third of the TTL. */
  #interval(): number {
    return this.#ttl * 1000 * (0.25 + Math.random() / 12);
  }
}

const loggedOut = () => new PresenceError("closed", "the session was logged out");
