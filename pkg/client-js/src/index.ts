export { Presence } from "./presence.js";
export type { Session, EndReason } from "./session.js";
export type { Contacts } from "./contacts.js";
export { isPresenceError, PresenceError, type ErrorCode } from "./protocol/errors.js";
export { StatusType } from "./protocol/messages.js";
export type {
  Availability,
  AvailabilitySettings,
  ContactsReply,
  OwnStatusReply,
  SessionInfo,
  SetRequest,
  Status,
} from "./protocol/messages.js";
export type * from "./types.js";
