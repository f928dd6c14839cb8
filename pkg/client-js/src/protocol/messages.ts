// The messages of the contract, as they are on the wire. A field with "?" may be left out. A
// receiver ignores fields that it does not know (PROTOCOL 1).

/** Whether a user can be reached (PROTOCOL 3). */
export const StatusType = {
  /** There is no copy that can be trusted: not fetched, or blind. The service never sends it. */
  UNKNOWN: 0,
  /** At least one session is live. */
  ONLINE: 1,
  /** No session is live, and at least one was lost without a logout. */
  OFFLINE: 2,
  /** There is no session at all. */
  UNLOGINED: 3,
} as const;
export type StatusType = (typeof StatusType)[keyof typeof StatusType];

/**
 * How a user wants to be reached while ONLINE (PROTOCOL 3). A {@link Status} leaves out
 * `available`. Only the owner's view has `invisible`.
 */
export type Availability = "available" | "away" | "busy" | "dnd" | "invisible";

/** A moment: RFC 3339 in UTC with milliseconds. Times are for people. Order by revisions. */
export type Time = string;

/** What is shown of a user (PROTOCOL 2). */
export interface Status {
  userID: string;
  statusType: StatusType;
  /** The user's own text, at most 512 bytes of UTF-8 unless configured; empty for none. */
  customStatus: string;
  /** Left out where the text does not expire. */
  customStatusExpiresAt?: Time;
  /** Left out while it is `available`, and while the user is not ONLINE. */
  availability?: Availability;
  /** When the user last stopped being ONLINE; left out while ONLINE or never seen. */
  lastSeenAt?: Time;
  /** Platforms of live sessions, sorted, each once; only with `detail`, and never announced. */
  platforms?: string[];
  /** Revision of the last visible change, below 2^53; 0: none known. */
  revision: number;
  /** When that change was committed; left out while `revision` is 0. */
  updatedAt?: Time;
}

/** Why a status changed (PROTOCOL 5). */
export type Cause = "login" | "logout" | "lost" | "set" | "expired" | "kicked" | "erased";

/** Published on `status.<user>` when the public view changes (PROTOCOL 5). */
export interface Event extends Status {
  /** Names the journal; revisions of another epoch mean nothing. */
  epoch: string;
  /** Revision of the change before. Who knows another one has missed changes in between. */
  previousRevision: number;
  cause: Cause;
}

/** What a user has set, which may differ from what is shown (PROTOCOL 3). */
export interface AvailabilitySettings {
  lasting: Availability;
  /** In force until `overrideExpiresAt`; left out for none. */
  override?: Availability;
  overrideExpiresAt?: Time;
}

/** Names a NATS connection: the server's ID, and the client ID that the server gave it. */
export interface Connection {
  serverID: string;
  clientID: number;
}

/** One login of one device, as its owner sees it (PROTOCOL 4.5). */
export interface SessionInfo {
  sessionID: string;
  device?: string;
  platform: string;
  live: boolean;
  /** Nobody is at the device. */
  idle: boolean;
  ttlSeconds: number;
  /** How long the session outlives its closed connection; may have a fraction. */
  graceSeconds: number;
  /** The session ends with its NATS connection. */
  bound: boolean;
  /** The connection that it is or was bound to. One that was never a client's own: shared. */
  connection?: Connection;
  /** The gateway that holds the session; left out if none does. */
  gateway?: string;
  /** When the session was opened. */
  loginAt: Time;
  /** When it was lost; left out while it is live. */
  lostAt?: Time;
}

/**
 * Published on `self.<user>` for the user's own devices (PROTOCOL 5). A receiver ignores types
 * that it does not know. Which fields there are depends on the type:
 *
 *     status         status, cause, epoch; the owner's view
 *     availability   availability, revision, epoch; also if what is shown did not change
 *     sessions       sessions, revision, epoch; all of them, in the order of their logins
 *     kicked         sessionID, reason, revision, epoch; that client must not log in by itself
 *     contacts       added, removed, version, previousVersion
 */
export interface SelfEvent {
  type: string;
  status?: Status;
  cause?: Cause;
  sessions?: SessionInfo[];
  availability?: AvailabilitySettings;
  sessionID?: string;
  reason?: "kicked" | "replaced" | "logout" | "erased";
  /** Both lists are left out where they would not fit; then the versions are equal. */
  added?: string[];
  removed?: string[];
  /** 0 after an erasure. */
  version?: number;
  previousVersion?: number;
  revision?: number;
  epoch?: string;
}

/** Opens or resumes a session (PROTOCOL 4.1). */
export interface LoginRequest {
  /** 1 to 64 bytes of A-Z a-z 0-9 _ -; by default the service makes a UUID. */
  sessionID?: string | undefined;
  /** Up to 128 bytes; replaces that device's earlier session. */
  device?: string | undefined;
  /** 1 to 32 bytes of a-z 0-9 -; by default `unknown`. */
  platform?: string | undefined;
  /** 5 to 3600; the default is the service's. */
  ttlSeconds?: number | undefined;
  /** 1 to 300, as far as the operator allows; the default is the service's. */
  graceSeconds?: number | undefined;
  idle?: boolean | undefined;
  connection?: Connection | undefined;
}

/** Answers a {@link LoginRequest}. */
export interface LoginReply {
  sessionID: string;
  ttlSeconds: number;
  graceSeconds: number;
  replaced?: string[];
  /** The owner's view. */
  status: Status;
  revision: number;
  epoch: string;
}

/** Extends a session's lease (PROTOCOL 4.2). `idle` left out is left alone. */
export interface RenewRequest {
  sessionID: string;
  idle?: boolean | undefined;
}

/** Ends one session, or all of a user's (PROTOCOL 4.3). */
export interface LogoutRequest {
  sessionID?: string;
  /** Ends the session for good: it must not log in again by itself. Only with sessionID. */
  final?: boolean;
  all?: boolean;
}

/** Changes a user's text or availability (PROTOCOL 4.4). What is left out is left alone. */
export interface SetRequest {
  /** At most 512 bytes of UTF-8 unless configured; "" clears it. */
  customStatus?: string | undefined;
  /** 1 s to 366 days, only with a text; without it the text does not expire. */
  expiresInSeconds?: number | undefined;
  /** The lasting value or, with an expiry, an override of it. */
  availability?: Availability | undefined;
  availabilityExpiresInSeconds?: number | undefined;
  /** Refuses the change unless the owner's status has this revision. */
  ifRevision?: number | undefined;
  /** Refuses the change unless this session is live. */
  sessionID?: string | undefined;
}

/** Answers renew, logout and set: the owner's view after it. */
export interface ChangeReply {
  status: Status;
  revision: number;
  epoch: string;
  /** Answers a logout with `final`: the session must not log in again by itself. */
  final?: boolean;
}

/** Asks for 1 to 500 users (PROTOCOL 4.5). */
export interface GetRequest {
  userIDList: string[];
  /** Adds platforms. */
  detail?: boolean | undefined;
  /** The instance waits, up to 2 s, for this revision of this epoch. */
  minRevision?: number | undefined;
  epoch?: string | undefined;
  /** Makes the read linearizable: it goes through the journal. */
  fresh?: boolean | undefined;
}

/** Why one user of a list could not be served. */
export interface UserFailure {
  userID: string;
  /** As in HTTP. */
  code: number;
  /** The stable name, such as `invalid_user_id`. */
  error: string;
  message: string;
}

/** Answers a {@link GetRequest}: every ID is in exactly one list, in the order asked. */
export interface GetReply {
  successUserList: Status[];
  failureUserList: UserFailure[];
  /** The reply includes every change up to it. */
  revision: number;
  epoch: string;
  /** The journal's time at `revision`. */
  asOf?: Time;
  /** The instance is cut off from the journal (PROTOCOL 8, G12). */
  stale: boolean;
}

/** Answers `user.<user>.status`: the owner's view with sessions. */
export interface OwnStatusReply {
  status: Status;
  availability: AvailabilitySettings;
  sessions: SessionInfo[];
  revision: number;
  epoch: string;
  asOf?: Time;
  stale: boolean;
}

/**
 * Reads contacts, or changes them (PROTOCOL 4.6): `add` and `remove`, or `replace`. Each list has
 * at most 2,000 IDs.
 */
export interface ContactsRequest {
  add?: string[] | undefined;
  remove?: string[] | undefined;
  replace?: string[] | undefined;
}

/** Answers a {@link ContactsRequest} with all contacts after it, sorted by bytes. */
export interface ContactsReply {
  contacts: string[];
  /** A client watches its user's contacts by itself. */
  friendNotifications: boolean;
  /** Rises with every change; 0: never changed, or erased. */
  version: number;
}

/** Opens or resumes a gateway's lease (PROTOCOL 4.7). */
export interface OpenRequest {
  process: string;
  /** 5 to 3600; by default 30. */
  ttlSeconds?: number | undefined;
  /** 1 to 300, as far as the operator allows; the default is the service's. */
  graceSeconds?: number | undefined;
  connection?: Connection | undefined;
}

/** Renews a gateway's lease. */
export interface LeaseRequest {
  process: string;
}

/** Ends a gateway's lease: its sessions are lost, or logged out. */
export interface CloseRequest {
  process: string;
  logout?: boolean;
}

/** Answers open, renew and close. */
export interface LeaseReply {
  ttlSeconds?: number;
  graceSeconds?: number;
  /** The number of this process's last apply. Only the reply to open has it. */
  seq: number;
  /** How many applies may be under way. Only the reply to open has it; left out: 1. */
  window?: number;
  revision: number;
  epoch: string;
}

/** One change by a gateway for one of its users (PROTOCOL 4.7). */
export interface Op extends SetRequest {
  op: "login" | "logout" | "lost" | "idle" | "set";
  userID: string;
  /** With login only, as are `platform`s. */
  device?: string | undefined;
  platform?: string | undefined;
  /** With login and idle. */
  idle?: boolean | undefined;
}

/** Does 1 to 1,000 ops in order, as one change. A process numbers its applies 1, 2, 3 and so on. */
export interface ApplyRequest {
  process: string;
  seq: number;
  ops: Op[];
}

/** Answers an {@link ApplyRequest}. A failed op leaves the others. */
export interface ApplyReply {
  applied: number;
  failures: OpFailure[];
  revision: number;
  epoch: string;
}

/** Why the op at an index of the request was not done. */
export interface OpFailure extends UserFailure {
  index: number;
}

/** The body of an error (PROTOCOL 6). */
export interface ErrorBody {
  code: number;
  error: string;
  message: string;
  retryAfterMs?: number;
}
