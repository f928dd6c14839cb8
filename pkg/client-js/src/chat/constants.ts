/** Names of the events of {@link Chat.on}. */
export const EVENT = Object.freeze({
  /** `event.data` is an array of statuses, each of another user. */
  USER_STATUS_UPDATED: "userStatusUpdated",
  /** `event.data.state` is one of `TYPES.NET_STATE_*`. */
  NET_STATE_CHANGE: "netStateChange",
  /** The session was ended for good by somebody else; `event.data` is `{ code, message }`. */
  KICKED_OUT: "kickedOut",
} as const);

/** Values in answers and events. */
export const TYPES = Object.freeze({
  /** Nobody can tell. The service never says so, see `chat.presence.watched`. */
  USER_STATUS_UNKNOWN: 0,
  /** At least one session is live. */
  USER_STATUS_ONLINE: 1,
  /** No session is live, and at least one was lost without a logout. */
  USER_STATUS_OFFLINE: 2,
  /** Never logged in, or logged out everywhere. */
  USER_STATUS_UNLOGINED: 3,

  /** Everything watched is known. */
  NET_STATE_CONNECTED: "connected",
  /** There is a connection, and what is watched is being fetched. */
  NET_STATE_CONNECTING: "connecting",
  /** There is no connection. Another is being made, without limit. */
  NET_STATE_DISCONNECTED: "disconnected",
} as const);
