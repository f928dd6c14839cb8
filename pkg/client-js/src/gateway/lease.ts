import type { Core } from "../core.js";
import type { Connection } from "../link.js";
import { newID } from "../logins.js";
import type { Reader } from "../protocol/decode.js";
import { isPresenceError, PresenceError } from "../protocol/errors.js";
import type { LeaseReply } from "../protocol/messages.js";
import type { GatewayOp } from "../protocol/subjects.js";
import { Scope } from "../scope.js";
import { backoff } from "../timing.js";
import { readLeaseReply } from "./replies.js";
import type { GatewayOptions } from "./gateway.js";

/** The first pause after a failed renewal. No pause is longer than the regular one. */
const RENEW_RETRY_MS = 250;
/** The most applies under way, whatever the service allows. */
const MOST_WINDOW = 4;

/**
 * One lease of a gateway (PROTOCOL 4.7). Each has a process ID of its own, even in the same
 * process after its lease was lost. So a late copy of a request of the earlier lease cannot be
 * taken for one of this lease with the same number.
 */
export class Lease {
  readonly process = newID();
  /** How many applies may be under way. */
  window = 1;
  /** When it is to be renewed, by `performance.now()`. */
  renewAt = 0;
  readonly #core: Core;
  readonly #gatewayID: string;
  readonly #options: GatewayOptions;
  readonly #life: Scope;
  readonly #changed: () => void;
  #ttl = 0;
  #missed = 0; // renewals in a row
  #bound = false;
  #release: (() => void)[] = [];

  /** `changed` is called when the lease has to be bound anew. */
  constructor(core: Core, gatewayID: string, options: GatewayOptions, life: Scope, changed: () => void) {
    this.#core = core;
    this.#gatewayID = gatewayID;
    this.#options = options;
    this.#life = life;
    this.#changed = changed;
  }

  /** It is open and, unless the gateway is unbound, bound to the current connection. */
  get bound(): boolean {
    return this.#bound;
  }

  /** Makes one attempt of a request, which is over before the next renewal but one. */
  async ask<T>(op: GatewayOp, body: object, read: Reader<T>): Promise<T> {
    const { subjects, requests } = this.#core;
    const scope = new Scope(this.#life);
    if (this.#ttl) scope.within(this.#ttl / 3, () => new PresenceError("timeout", "no answer before the next renewal"));
    try {
      return await requests.once({ subject: subjects.gateway(this.#gatewayID, op), body, read, repeatable: true }, scope);
    } finally {
      scope.end(undefined);
    }
  }

  /** Opens the lease, or binds it to a connection. It returns the number of its last apply. */
  async open(connection: Connection): Promise<number> {
    const { ttlSeconds, graceSeconds, unbound } = this.#options;
    const { back } = this.#core.journal;
    const begun = performance.now();
    const identity = unbound ? undefined : connection.identity;
    const body = { process: this.process, ttlSeconds, graceSeconds, connection: identity };
    const reply = await this.ask("open", body, readLeaseReply);
    this.window = Math.min(Math.max(reply.window ?? 1, 1), MOST_WINDOW);
    this.#renewed(begun, reply);
    this.#follow(unbound ? [back] : [back, connection.scope]);
    return reply.seq;
  }

  /**
   * Makes one attempt to extend the lease. If it fails the next one comes soon, and changes are
   * sent in between. It throws `lease_not_found` only.
   */
  async renew(): Promise<void> {
    const begun = performance.now();
    try {
      this.#renewed(begun, await this.ask("renew", { process: this.process }, readLeaseReply));
    } catch (error) {
      if (isPresenceError(error, "lease_not_found")) throw error;
      // The lease is renewed all the same (PROTOCOL 6), unless the instance that answered does not
      // know it yet. There are two more renewals in its TTL.
      if (isPresenceError(error, "overloaded", "rate_limited")) this.renewAt = begun + this.#interval();
      else this.renewAt = performance.now() + backoff(this.#missed++, RENEW_RETRY_MS, this.#interval());
    }
  }

  /** Makes one attempt to end the lease. Its sessions are lost, or logged out. */
  async close(logout: boolean): Promise<void> {
    const { epoch, revision } = await this.ask("close", { process: this.process, logout }, readLeaseReply);
    this.#core.wrote(epoch, revision);
  }

  /** Lets go of connection and journal. */
  leave(): void {
    this.#bound = false;
    for (const release of this.#release) release();
    this.#release = [];
  }

  /** The lease has to be bound anew when one of these ends. */
  #follow(scopes: Scope[]): void {
    this.leave();
    this.#bound = true;
    this.#release = scopes.map((scope) =>
      scope.onEnd(() => {
        this.#bound = false;
        this.#changed();
      }),
    );
  }

  #renewed(begun: number, { epoch, revision, ttlSeconds }: LeaseReply): void {
    this.#core.wrote(epoch, revision);
    this.#ttl = (ttlSeconds || this.#ttl / 1000 || 1) * 1000;
    this.#missed = 0;
    this.renewAt = begun + this.#interval();
  }

  /** The jittered time to the next renewal: at most a third of the TTL. */
  #interval(): number {
    return this.#ttl * (0.25 + Math.random() / 12);
  }
}
