import { PresenceError } from "./errors.js";
import { MAX_BODY_BYTES } from "./limits.js";
import type * as m from "./messages.js";

// A reader takes a part of a message from what JSON.parse returned, or throws what is wrong. What
// is left out, or null, has the zero value of its type. Fields that are not known are left out, so
// two messages that say the same are the same in JSON.

/** Reads a part of a message. */
export type Reader<T> = (value: unknown) => T;

type Optional<T> = { [K in keyof T]-?: undefined extends T[K] ? K : never }[keyof T];
type Readers<T> = { [K in keyof T]-?: Reader<Exclude<T[K], undefined>> };

const lone = /\p{Cs}/u;
const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/** A reader of single values: `zero` stands for what is left out. */
function value<T>(zero: T, name: string, valid: (v: T) => boolean): Reader<T> {
  return (v) => {
    if (v === undefined) return zero;
    if (typeof v !== typeof zero || !valid(v as T)) throw new TypeError(`${JSON.stringify(v)} is not ${name}`);
    return v as T;
  };
}

export const text = value("", "a text", (v) => !lone.test(v));
const time = value("", "a time", (v) => rfc3339.test(v) && !isNaN(Date.parse(v)));
export const count = value(0, "a whole number", (v) => Number.isSafeInteger(v) && v >= 0);
export const seconds = value(0, "a number", () => true);
const flag = value(false, "true or false", () => true);
/** A text of which the known values are a type. A later version of the service may send others. */
const word = text as Reader<never>;

/** A reader of a list. */
export function list<T>(of: Reader<T>): Reader<T[]> {
  return (v) => {
    if (v === undefined) return [];
    if (!Array.isArray(v)) throw new TypeError("it is not a list");
    return v.map((x) => of(x ?? undefined));
  };
}

/** A reader of an object, by its required and its optional fields. */
export function object<T extends object>(
  required: Readers<Omit<T, Optional<T>>>,
  optional: Readers<Pick<T, Optional<T>>>,
): Reader<T> {
  const fields = Object.entries<Reader<unknown>>({ ...required, ...optional });
  return (v = {}) => {
    if (typeof v !== "object" || v === null || Array.isArray(v)) throw new TypeError("it is not an object");
    const result: Record<string, unknown> = {};
    for (const [name, read] of fields) {
      const field = (v as Record<string, unknown>)[name] ?? undefined;
      // An optional text that is empty is left out (PROTOCOL 1).
      if (name in optional && (field === undefined || field === "")) continue;
      result[name] = read(field);
    }
    return result as T;
  };
}

const statusFields = [
  { userID: text, statusType: count as Reader<never>, customStatus: text, revision: count },
  {
    customStatusExpiresAt: time,
    availability: word,
    lastSeenAt: time,
    platforms: list(text),
    updatedAt: time,
  },
] as const;
/** Reads a status; of an event it takes what is the status. */
export const readStatus = object<m.Status>(...statusFields);
const settings = object<m.AvailabilitySettings>({ lasting: word }, { override: word, overrideExpiresAt: time });
const connection = object<m.Connection>({ serverID: text, clientID: count }, {});
const session = object<m.SessionInfo>(
  {
    sessionID: text,
    platform: text,
    live: flag,
    idle: flag,
    ttlSeconds: count,
    graceSeconds: seconds,
    bound: flag,
    loginAt: time,
  },
  { device: text, connection, gateway: text, lostAt: time },
);
/** What every reply says of itself. */
export const asOf = { revision: count, epoch: text };
export const failureFields = { userID: text, code: count, error: text, message: text };

export const readEvent = object<m.Event>(
  { ...statusFields[0], epoch: text, previousRevision: count, cause: word },
  statusFields[1],
);
export const readSelfEvent = object<m.SelfEvent>(
  { type: text },
  {
    status: readStatus,
    cause: word,
    sessions: list(session),
    availability: settings,
    sessionID: text,
    reason: word,
    added: list(text),
    removed: list(text),
    version: count,
    previousVersion: count,
    ...asOf,
  },
);
export const readLoginReply = object<m.LoginReply>(
  { sessionID: text, ttlSeconds: count, graceSeconds: seconds, status: readStatus, ...asOf },
  { replaced: list(text) },
);
export const readChangeReply = object<m.ChangeReply>({ status: readStatus, ...asOf }, { final: flag });
export const readGetReply = object<m.GetReply>(
  {
    successUserList: list(readStatus),
    failureUserList: list(object<m.UserFailure>(failureFields, {})),
    ...asOf,
    stale: flag,
  },
  { asOf: time },
);
export const readOwnStatusReply = object<m.OwnStatusReply>(
  { status: readStatus, availability: settings, sessions: list(session), ...asOf, stale: flag },
  { asOf: time },
);
export const readContactsReply = object<m.ContactsReply>(
  { contacts: list(text), friendNotifications: flag, version: count },
  {},
);
const readErrorBody = object<m.ErrorBody>({ code: count, error: text, message: text }, { retryAfterMs: count });

/** A reply of NATS, as `@nats-io` has it. */
export interface Reply {
  readonly data: Uint8Array;
  readonly headers?: { get(name: string): string } | undefined;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** Reads the body of an event or a reply. What cannot be read is `internal`, and says why. */
export function decode<T>(data: Uint8Array, read: Reader<T>): T {
  try {
    if (data.length > MAX_BODY_BYTES) throw new RangeError(`it has ${data.length} bytes`);
    return read(JSON.parse(utf8.decode(data)));
  } catch (cause) {
    throw new PresenceError("internal", `a message of the service could not be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * Reads a reply, or throws the error that it is (PROTOCOL 6). `sentAt` says when the request was
 * sent, by `Date.now()`: `outcome_unknown` has it.
 */
export function decodeReply<T>(reply: Reply, read: Reader<T>, sentAt?: number): T {
  const code = reply.headers?.get("Nats-Service-Error-Code");
  if (!code) return decode(reply.data, read);
  let body: m.ErrorBody | undefined;
  try {
    body = decode(reply.data, readErrorBody);
  } catch {
    // It is not from the service: an error of NATS micro has headers only.
  }
  if (!body?.error) {
    const message = reply.headers?.get("Nats-Service-Error") ?? "";
    throw new PresenceError("internal", message, { status: parseInt(code) || 500 });
  }
  throw new PresenceError(body.error, body.message, {
    status: body.code || undefined,
    retryAfterMs: body.retryAfterMs,
    sentAt: body.error === "outcome_unknown" ? sentAt : undefined,
  });
}

/** Encodes a request. One over 512 KiB is `request_too_large`; a server may take less. */
export function encode(request: object): Uint8Array {
  const data = encoder.encode(JSON.stringify(request));
  if (data.length > MAX_BODY_BYTES) {
    throw new PresenceError("request_too_large", `the body has ${data.length} bytes, at most ${MAX_BODY_BYTES} are allowed`);
  }
  return data;
}
