/** The errors of the contract, with the codes that they have in HTTP (PROTOCOL 6). */
const statuses = {
  invalid_request: 400,
  invalid_user_id: 400,
  too_many_users: 400,
  custom_status_too_long: 400,
  feature_disabled: 403,
  session_not_found: 404,
  lease_not_found: 404,
  revision_conflict: 409,
  out_of_order: 409,
  too_many_sessions: 409,
  session_replaced: 410,
  request_too_large: 413,
  rate_limited: 429,
  internal: 500,
  overloaded: 503,
  unavailable: 503,
  outcome_unknown: 504,
};

/** The stable name of an error of the contract. */
export type ServiceErrorCode = keyof typeof statuses;

/**
 * The stable name of an error: one of the contract's, or of those that only a client has.
 *
 * - `closed`: the client, the session or the gateway was closed, and does no more.
 * - `timeout`: no answer came in time, and nothing was done.
 * - `aborted`: the caller gave up. An aborted signal rejects with its own reason instead.
 * - `not_connected`: there is no connection, and none came in time; nothing was done.
 *
 * A later version of the service may send a name that is not listed here.
 */
export type ErrorCode =
  | ServiceErrorCode
  | "closed"
  | "timeout"
  | "aborted"
  | "not_connected"
  | (string & {});

/** What a {@link PresenceError} may have besides its code and message. */
export interface PresenceErrorOptions {
  status?: number | undefined;
  retryAfterMs?: number | undefined;
  sentAt?: number | undefined;
  cause?: unknown;
}

/**
 * The only class of error that this package makes. Go by `code`: it is stable. `message` is for
 * people and may change.
 *
 * All codes but `outcome_unknown` mean that nothing was done.
 */
export class PresenceError extends Error {
  override readonly name = "PresenceError";
  /** The stable name, such as `session_replaced`. */
  readonly code: ErrorCode;
  /** The code in HTTP; missing for errors that the contract does not have. */
  readonly status?: number;
  /** With `rate_limited`: do not ask again before so many milliseconds have gone by. */
  readonly retryAfterMs?: number;
  /**
   * With `outcome_unknown`: when the change was sent, by `Date.now()`. A fresh read that is sent
   * 11 s later settles whether it was done (PROTOCOL 6).
   */
  readonly sentAt?: number;

  constructor(code: ErrorCode, message: string, options: PresenceErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    const status = options.status ?? statuses[code as ServiceErrorCode];
    if (status !== undefined) this.status = status;
    if (options.retryAfterMs) this.retryAfterMs = options.retryAfterMs;
    if (options.sentAt !== undefined) this.sentAt = options.sentAt;
  }
}

/** Reports whether an error is a {@link PresenceError}, with one of the codes if any are given. */
export function isPresenceError(error: unknown, ...codes: ErrorCode[]): error is PresenceError {
  return error instanceof PresenceError && (codes.length === 0 || codes.includes(error.code));
}
