import type { Core } from "../core.js";
import { coreOf, Presence } from "../presence.js";
import { checkID, checkOp, checkTerms } from "../protocol/check.js";
import { PresenceError } from "../protocol/errors.js";
import type { Availability, Op } from "../protocol/messages.js";
import { Scope } from "../scope.js";
import type { CallOptions } from "../types.js";
import { Run } from "./run.js";

/** What a gateway is. */
export interface GatewayOptions extends CallOptions {
  /** 5 to 3,600: how long sessions live on when the gateway has fallen silent; default 30. */
  ttlSeconds?: number | undefined;
  /** 1 to 300: how long they outlive the gateway's closed connection; default the service's. */
  graceSeconds?: number | undefined;
  /** The gateway does not depend on the connection: only its TTL ends it. */
  unbound?: boolean | undefined;
  /** How many changes may wait to be sent; default 65,536. More are `overloaded`. */
  maxWaiting?: number | undefined;
  /**
   * Called for each session that could not be logged in again after the lease was lost, with the
   * reason: `session_replaced` if the device has logged in elsewhere. The gateway has forgotten it.
   */
  onSessionEnded?: ((userID: string, sessionID: string, error: PresenceError) => void) | undefined;
}

/** What a session is that a gateway logs in. */
export interface GatewayLogin extends CallOptions {
  /** Replaces that device's earlier session. */
  device?: string | undefined;
  /** `web`, `android` and so on; default `unknown`. */
  platform?: string | undefined;
  /** Nobody is at the device. */
  idle?: boolean | undefined;
}

/** How a gateway sets a text or an availability. */
export interface GatewaySet extends CallOptions {
  /** It ends after so many seconds, 1 to 366 days; without it, it lasts. */
  expiresIn?: number | undefined;
  /** Fails with `revision_conflict` unless the user's status has this revision. */
  ifRevision?: number | undefined;
  /** Fails with `session_not_found` unless the user has a live session with this ID. */
  sessionID?: string | undefined;
}

/**
 * What happens to a gateway's sessions when it is closed:
 *
 * - `lose`: their users become OFFLINE at once.
 * - `logout`: they become UNLOGINED.
 * - `leave`: they live on until the TTL ends, or the grace after the connection was closed. A
 *   gateway that logs them in before, with their IDs, takes them over, and nobody notices.
 */
export type SessionsEnd = "lose" | "logout" | "leave";

/** How a gateway is closed. */
export interface GatewayClose extends CallOptions {
  /** The default is `lose`. */
  sessions?: SessionsEnd | undefined;
}

/**
 * Opens a gateway, over the connection of a Presence. Its ID has 1 to 64 bytes of A-Z a-z 0-9 _ -.
 * An earlier run of it may have had the same ID: this one takes over its sessions as it logs them
 * in. On an error a lease without sessions may have been opened.
 */
export async function openGateway(presence: Presence, gatewayID: string, options: GatewayOptions = {}): Promise<Gateway> {
  if (!(presence instanceof Presence)) throw invalid("a gateway needs a Presence");
  const core = coreOf(presence);
  checkID(gatewayID, "the gateway's ID");
  checkTerms(options);
  const { maxWaiting = 65_536 } = options;
  if (!(maxWaiting >= 1)) throw invalid("maxWaiting must be a number from 1");
  return core.run(options, (scope) => Gateway.open(core, gatewayID, options, scope));
}

/**
 * Holds the sessions of many users by one lease, for a server that users are connected to, such as
 * a WebSocket server. It renews the lease every third of its TTL, binds it to each new connection,
 * and remembers whom it has logged in. If the lease was lost, it opens another and first logs
 * everyone in again.
 *
 * Changes travel together: while requests are under way, the changes that are called meanwhile
 * form the next one, up to 1,000. They are done in the order of their calls. No timer delays them.
 *
 * Each call waits for the answer to its own change, at most for `patience`. While the connection
 * is gone or the service overloaded a change is tried again, and is done once. If the caller gives
 * up first, a login or set that was not sent yet is not done. All else may still be done: the
 * error is `outcome_unknown`, or the signal's reason. Repeat such a logout or lost, or the session
 * may stay.
 */
export class Gateway {
  readonly gatewayID: string;
  /** Resolves once, when the gateway has ended: with undefined if it was closed, else with why. */
  readonly ended: Promise<PresenceError | undefined>;
  readonly #core: Core;
  readonly #life: Scope;
  readonly #run: Run;
  readonly #maxWaiting: number;
  #why: PresenceError | undefined; // why it takes no more changes
  #failure: unknown; // why it could not go on
  #closing: Promise<void> | undefined;

  private constructor(core: Core, gatewayID: string, options: GatewayOptions, life: Scope, run: Run) {
    this.#core = core;
    this.gatewayID = gatewayID;
    this.#maxWaiting = options.maxWaiting ?? 65_536;
    this.#life = life;
    this.#run = run;
    this.ended = this.#live();
    core.gateways.add(this);
  }

  /** @internal */
  static async open(core: Core, gatewayID: string, options: GatewayOptions, scope: Scope): Promise<Gateway> {
    const life = new Scope(core.life);
    const run = new Run(core, gatewayID, options, life);
    try {
      const attempt = async () => run.open(await core.requests.connection(scope));
      await scope.wait(core.requests.retry(true, scope, attempt));
      scope.check();
    } catch (error) {
      run.end(closed());
      life.end(closed());
      throw error;
    }
    return new Gateway(core, gatewayID, options, life, run);
  }

  /** How many sessions it holds: those that it has logged in and does not know to have ended. */
  get sessions(): number {
    return this.#run.sessions.size;
  }

  /**
   * Opens a session, or resumes the one with that ID, even if another gateway holds it: nobody
   * notices such a handover. Do not repeat a login that is refused with `session_replaced`.
   */
  login(userID: string, sessionID: string, options: GatewayLogin = {}): Promise<void> {
    const { device, platform, idle } = options;
    return this.#do({ op: "login", userID, sessionID, device, platform, idle }, options);
  }

  /**
   * Ends a session because its user wants it. A session that this gateway does not hold stays as
   * it is, without an error: it has ended, or gone to another gateway.
   */
  logout(userID: string, sessionID: string, options?: CallOptions): Promise<void> {
    return this.#do({ op: "logout", userID, sessionID }, options);
  }

  /**
   * Says that the connection of a session's device to this gateway broke. A session that this
   * gateway does not hold stays as it is, without an error.
   */
  lost(userID: string, sessionID: string, options?: CallOptions): Promise<void> {
    return this.#do({ op: "lost", userID, sessionID }, options);
  }

  /**
   * Says whether somebody is at the device. `session_not_found` says that the session has ended,
   * or gone to another gateway.
   */
  idle(userID: string, sessionID: string, idle: boolean, options?: CallOptions): Promise<void> {
    return this.#do({ op: "idle", userID, sessionID, idle }, options);
  }

  /** Sets a user's custom status, or clears it with "", with or without a session. */
  setStatus(userID: string, customStatus: string, options: GatewaySet = {}): Promise<void> {
    const { expiresIn: expiresInSeconds, ifRevision, sessionID } = options;
    return this.#do({ op: "set", userID, customStatus, expiresInSeconds, ifRevision, sessionID }, options);
  }

  /**
   * Sets how a user wants to be reached: the lasting value or, with `expiresIn`, an override of
   * it. Otherwise it is like `setStatus`.
   */
  setAvailability(userID: string, availability: Availability, options: GatewaySet = {}): Promise<void> {
    const { expiresIn: availabilityExpiresInSeconds, ifRevision, sessionID } = options;
    return this.#do({ op: "set", userID, availability, availabilityExpiresInSeconds, ifRevision, sessionID }, options);
  }

  /**
   * Takes no more changes, waits until those that wait are done, and ends the lease. If the caller
   * gives up first, by `signal` or `patience`, the gateway has ended all the same: then waiting
   * changes may not be done, and the service loses the sessions after the TTL. A second call
   * returns what the first did.
   */
  close(options: GatewayClose = {}): Promise<void> {
    const { sessions = "lose" } = options;
    return this.#core.run(options, (scope) => {
      if (!["lose", "logout", "leave"].includes(sessions)) throw invalid("sessions must be lose, logout or leave");
      return this.leave(scope, sessions);
    });
  }

  /** Closes it: its users become OFFLINE. Errors are left to the TTL. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => {});
  }

  /** @internal Closes it, within a scope. */
  leave(scope: Scope, how: SessionsEnd = "lose"): Promise<void> {
    this.#closing ??= this.#close(how, scope);
    return scope.wait(this.#closing);
  }

  /** Queues a change and waits for its answer. */
  async #do(op: Op, options: CallOptions = {}): Promise<void> {
    checkOp(op);
    if (this.#why) throw this.#why;
    const { signal, patience = this.#core.settings.patience } = options;
    if (!(patience >= 0)) throw invalid("patience must be a number of milliseconds");
    if (signal?.aborted) throw signal.reason;
    const change = this.#run.push(op, this.#maxWaiting);
    if (!change) throw new PresenceError("overloaded", `${this.#maxWaiting} changes wait already`);
    return change.answered(options, patience);
  }

  async #close(how: SessionsEnd, scope: Scope): Promise<void> {
    this.#why ??= closed();
    this.#run.stop(how);
    const off = scope.onEnd(() => this.#life.end(scope.reason));
    await this.ended;
    off();
    const error = this.#failure ?? this.#run.closeError;
    if (error !== undefined) throw error;
  }

  /** Runs the gateway until it ends, and returns why, unless its owner has closed it. */
  async #live(): Promise<PresenceError | undefined> {
    try {
      await this.#run.loop();
    } catch (error) {
      this.#failure = error;
    }
    const error = this.#failure;
    this.#why ??= error instanceof PresenceError ? error : closed();
    this.#core.gateways.delete(this);
    this.#run.end(this.#why);
    this.#life.end(this.#why);
    return this.#closing ? undefined : this.#why;
  }
}

const closed = () => new PresenceError("closed", "the gateway is closed");
const invalid = (message: string) => new PresenceError("invalid_request", message);
