import type { Msg } from "@nats-io/nats-core";
import type { Link } from "./link.js";
import { decodeReply, encode, type Reader } from "./protocol/decode.js";
import { isPresenceError, PresenceError } from "./protocol/errors.js";
import type { Scope } from "./scope.js";
import { backoff, jitter } from "./timing.js";
import type { Settings } from "./types.js";

/** The pauses while nobody answers at all, and after which time that is an error. */
const NOBODY_MS = 5;
const NOBODY_MOST_MS = 250;
const NOBODY_FOR_MS = 3_000;
/** How often a repeatable request is repeated when no answer came. */
const NO_ANSWER_RETRIES = 2;
/** The pauses while the service is overloaded or unavailable. */
export const BUSY_MS = 50;
export const BUSY_MOST_MS = 2_000;

/** One request of the contract. */
export interface Ask<T> {
  subject: string;
  body: object;
  read: Reader<T>;
  /** It does no harm to do it twice. */
  repeatable?: boolean;
}

/** Sends requests over whatever connection there is, and tries again what may be tried again. */
export class Requests {
  readonly #link: Link;
  readonly #timeout: number;

  constructor(link: Link, settings: Settings) {
    this.#link = link;
    this.#timeout = settings.timeout;
  }

  /** Makes a request, with retries, within a scope. */
  call<T>(ask: Ask<T>, scope: Scope): Promise<T> {
    return this.retry(ask.repeatable, scope, () => this.once(ask, scope));
  }

  /**
   * Makes attempts until one succeeds or fails for good, or the scope ends:
   *
   *     overloaded, unavailable     nothing was done: again, with backoff
   *     rate_limited                nothing was done: again when it says, if repeatable
   *     nobody answers              nobody got it: again, for 3 s
   *     no answer, outcome_unknown  again, twice, if repeatable
   *     others                      never again, above all session_replaced
   */
  async retry<T>(repeatable: boolean | undefined, scope: Scope, attempt: () => Promise<T>): Promise<T> {
    let nobody = 0;
    let nobodySince = 0;
    let noAnswers = 0;
    let busy = 0;
    for (;;) {
      let failure: PresenceError;
      try {
        return await attempt();
      } catch (error) {
        if (scope.ended || !(error instanceof PresenceError)) throw error;
        failure = error;
      }
      let wait = jitter(BUSY_MS);
      if (isNobody(failure)) {
        if (nobody === 0) nobodySince = performance.now();
        wait = backoff(nobody++, NOBODY_MS, NOBODY_MOST_MS);
        if (performance.now() - nobodySince + wait > NOBODY_FOR_MS) throw failure;
      } else if (["overloaded", "unavailable"].includes(failure.code)) {
        wait = backoff(busy++, BUSY_MS, BUSY_MOST_MS);
        nobody = 0; // somebody was there
      } else if (repeatable && failure.code === "rate_limited") {
        wait += failure.retryAfterMs ?? 0;
        nobody = 0;
      } else if (!repeatable || !["timeout", "outcome_unknown"].includes(failure.code)) {
        throw failure;
      } else if (noAnswers++ === NO_ANSWER_RETRIES) {
        throw failure;
      }
      try {
        await scope.sleep(wait);
      } catch (reason) {
        throw isPresenceError(reason, "timeout") ? failure : reason;
      }
    }
  }

  /** Makes one attempt. It sends nothing while there is no connection. */
  async once<T>({ subject, body, read, repeatable }: Ask<T>, scope: Scope): Promise<T> {
    const data = encode(body);
    const connection = await this.connection(scope);
    const sentAt = Date.now();
    let msg: Msg;
    try {
      const answer = connection.nc.request(subject, data, { timeout: this.#timeout });
      msg = await scope.wait(connection.scope.wait(answer));
    } catch (error) {
      if (scope.byCaller) throw error;
      throw this.#failure(error, subject, repeatable ? undefined : sentAt);
    }
    return decodeReply(msg, read, sentAt);
  }

  /** Waits for a connection. */
  async connection(scope: Scope) {
    try {
      return await this.#link.wait(scope);
    } catch (reason) {
      if (!isPresenceError(reason, "timeout")) throw reason;
      const cause = this.#link.failure;
      throw new PresenceError("not_connected", cause?.message ?? "there is no connection to NATS", { cause });
    }
  }

  /** What it means that no answer came. A change that was sent then may be done all the same. */
  #failure(error: unknown, subject: string, sentAt: number | undefined): PresenceError {
    const inner = ((error as Error).cause ?? error) as Error & { operation?: string };
    const cause = inner;
    switch (inner.name) {
      case NOBODY:
        return new PresenceError("unavailable", `nobody answers on ${subject}`, { cause });
      case "ClosedConnectionError":
        return new PresenceError("unavailable", "the connection is closed", { cause });
      case "InvalidArgumentError":
        return new PresenceError("request_too_large", "the broker takes no request so large", { cause });
      case "PermissionViolationError":
        if (inner.operation === "subscription") break;
        return new PresenceError("permission_denied", `the broker does not allow ${subject}`, { cause });
      case "TimeoutError":
        this.#link.doubt(); // is it the service that does not answer, or is the connection dead?
    }
    const said = `no answer on ${subject}: ${inner.message}`;
    if (sentAt === undefined) return new PresenceError("timeout", said, { cause });
    return new PresenceError("outcome_unknown", said, { cause, sentAt });
  }
}

const NOBODY = "NoResponders";

/** Nobody got the request. */
const isNobody = (error: PresenceError): boolean => (error.cause as Error | undefined)?.name === NOBODY;
