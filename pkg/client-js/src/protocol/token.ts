import { checkUserID } from "./check.js";
import { PresenceError } from "./errors.js";
import { MAX_USER_ID_BYTES } from "./limits.js";

// A user ID is put into a subject as one token: bytes A-Z a-z 0-9 _ - stand for themselves, every
// other byte is "=" and two upper-case hex digits. encodeURIComponent does the same by "%", and
// leaves seven more characters alone.

/** Returns the subject token of a user ID, or throws `invalid_user_id` (PROTOCOL 1). */
export function encodeToken(userID: string): string {
  checkUserID(userID);
  if (/^[\w-]+$/.test(userID)) return userID; // for speed
  return encodeURIComponent(userID)
    .replace(/[.!~*'()]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase())
    .replaceAll("%", "=");
}

/**
 * The exact inverse of {@link encodeToken}. It throws `invalid_user_id` for everything that
 * encodeToken does not return, so that a user ID has one token only (PROTOCOL 1).
 */
export function decodeToken(token: string): string {
  // A token is at most three bytes for each byte of the user ID.
  if (token.length <= 3 * MAX_USER_ID_BYTES && !token.includes("%")) {
    try {
      const userID = decodeURIComponent(token.replaceAll("=", "%"));
      if (encodeToken(userID) === token) return userID;
    } catch {
      // It is neither UTF-8 nor a user ID.
    }
  }
  throw new PresenceError("invalid_user_id", "the subject token of the user is not in its canonical spelling");
}
