import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import type { ErrorCode, PresenceError } from "./protocol/errors.js";
import type { AvailabilitySettings, SessionInfo, Status } from "./protocol/messages.js";

/** How a {@link Presence} connects and waits. Times are in milliseconds. */
export interface PresenceOptions {
  /**
   * Makes one connection: `wsconnect` of `@nats-io/nats-core` in browsers, `connect` of
   * `@nats-io/transport-node` in Node. The Presence calls it for each connection, and sets
   * whatever would make NATS reconnect by itself.
   */
  connect: (options: ConnectionOptions) => Promise<NatsConnection>;
  /**
   * Where and as whom to connect. A function is asked before each attempt, so that it can give
   * a new token. In a browser each server is a `ws://` or `wss://` URL.
   */
  options?: ConnectionOptions | (() => ConnectionOptions | Promise<ConnectionOptions>);
  /** The beginning of all subjects; default `presence.v1`. */
  prefix?: string;
  /** How long one attempt of a request waits for its answer; default 5,000. */
  timeout?: number;
  /**
   * How long a call goes on trying, waiting for a connection included, unless its own
   * `patience` says otherwise; default 30,000. Then the call rejects with the last error.
   */
  patience?: number;
  /**
   * How long a connection may bring nothing before the broker is asked for a sign of life;
   * default 10,000, jittered. A connection without an answer within half of it is replaced.
   * 0 never asks by itself.
   */
  probe?: number;
  /** How often everything watched is fetched anew, jittered; default 60,000. */
  resync?: number;
}

/** Options with their defaults. */
export interface Settings extends Required<Omit<PresenceOptions, "options">> {
  options: PresenceOptions["options"] | undefined;
}

/** What every call takes. */
export interface CallOptions {
  /** Ends the call: it rejects with the signal's reason. The request may be done all the same. */
  signal?: AbortSignal | undefined;
  /** How long the call goes on trying, in ms, instead of the Presence's own; may be Infinity. */
  patience?: number | undefined;
}

/** Why a session's ID is asked for: see {@link LoginOptions.sessionID}. */
export type LoginReason = "first" | "again" | "shared";

/** What a session is (PROTOCOL 4.1). */
export interface LoginOptions extends CallOptions {
  /**
   * Resumes the session of that ID; default a new UUID. A function is asked before each login
   * that is sent: `first`, then `again` on each new connection and after each loss, and `shared`
   * when another client has bound the session. It may answer another ID than the earlier one:
   * then the session goes on under that. After `shared` a session without a function takes a
   * new UUID.
   */
  sessionID?:
    | string
    | ((why: LoginReason, earlier?: string) => string | Promise<string>)
    | undefined;
  /**
   * The name of the device, whose earlier session it replaces. A function is asked before each
   * login. After `shared`, a name that is not given by a function is left out.
   */
  device?: string | (() => string | undefined) | undefined;
  /** `web`, `android` and so on; default `unknown`. */
  platform?: string | undefined;
  /**
   * 5 to 3,600: how long the session lives on without a renewal, which comes every third of it.
   * The default is the service's, 120 mostly. A page that may be hidden needs 180.
   */
  ttlSeconds?: number | undefined;
  /** 1 to 300: how long the session outlives its closed connection; default the service's. */
  graceSeconds?: number | undefined;
  /** Nobody is at the device; see {@link Session.setIdle}. */
  idle?: boolean | undefined;
  /** The session does not depend on the connection: only its TTL ends it. */
  unbound?: boolean | undefined;
}

/** How a text or an availability is set. */
export interface SetOptions extends CallOptions {
  /** It ends after so many seconds, 1 to 366 days; without it, it lasts. */
  expiresIn?: number | undefined;
  /** Fails with `revision_conflict` unless the user's status has this revision. */
  ifRevision?: number | undefined;
}

/** How statuses are asked for. */
export interface GetOptions extends CallOptions {
  /** Includes every change that was acknowledged to anybody before. It costs a journal entry. */
  fresh?: boolean | undefined;
  /** Adds the platforms of live sessions. */
  detail?: boolean | undefined;
}

/** Why one user of a list could not be served. */
export interface UserFailure {
  userID: string;
  /** The stable name, such as `invalid_user_id`. */
  code: ErrorCode;
  /** The code in HTTP. */
  status: number;
  /** For people. */
  message: string;
}

/** The answer to `get`: each user is in exactly one list, once, in the order asked. */
export interface GetResult {
  statuses: Status[];
  failures: UserFailure[];
  /** It includes every change of `epoch` up to this revision. */
  revision: number;
  epoch: string;
  /** An instance that answered is cut off from the journal: the answer may be old. */
  stale: boolean;
}

/** Why the copies of statuses cannot be trusted. */
export type BlindReason =
  /** There is no connection yet, or none any more; the next attempt is under way. */
  | "disconnected"
  /** `suspend` has dropped the connection. */
  | "suspended"
  /** The connection is there, and everything is being fetched. */
  | "resyncing"
  /** An event could not be read or did not come; everything is being fetched. */
  | "dropped"
  /** The journal is another one, or went back; everything is being fetched. */
  | "epoch_changed"
  /** Fetching failed, and is tried again. */
  | "fetch_failed"
  /** The broker refuses subscriptions, or has ended some; they are tried again. */
  | "refused"
  /** The Presence was closed; this is final. */
  | "closed"
  /** What was given to `doubt`. */
  | (string & {});

/** Whether the copies of statuses can be trusted: live, or blind and why. */
export type State =
  | { readonly live: true }
  | { readonly live: false; readonly reason: BlindReason; readonly error?: PresenceError };

/** What a user sees of the own state, the same on all devices of the user. */
export interface Own {
  userID: string;
  /** The owner's view: of an invisible user it differs from what everybody sees. */
  status: Status;
  /** What is set, whatever is shown. */
  availability: AvailabilitySettings;
  /** The sessions on all devices, lost ones included, in the order of their logins. */
  sessions: readonly SessionInfo[];
  /** Sorted. */
  contacts: readonly string[];
  /** The contacts are watched. */
  friendNotifications: boolean;
}

/** What `on` tells of. */
export interface PresenceEvents {
  /** Statuses of watched users, the latest of each; at most 500 in a list. */
  status: Status[];
  own: Own;
  state: State;
}
