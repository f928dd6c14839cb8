import { PresenceError, type ErrorCode } from "./errors.js";
import * as limits from "./limits.js";
import type { ContactsRequest, LoginRequest, Op, OpenRequest, SetRequest, UserFailure } from "./messages.js";

// Each function throws the first thing that is wrong, by the error that the service would answer
// (PROTOCOL 6). Nothing is sent then. Arguments may be of any type: not every caller has types.

const AVAILABILITIES: readonly unknown[] = ["available", "away", "busy", "dnd", "invisible"];

const utf8 = new TextEncoder();

function refuse(message: string, code: ErrorCode = "invalid_request"): never {
  throw new PresenceError(code, message);
}

/** A text of at most `most` bytes of UTF-8, without control characters and lone surrogates. */
function checkText(text: unknown, most: number, what: string, code?: ErrorCode, tooLong = code): void {
  if (typeof text !== "string") return refuse(`${what} must be a text, not ${nameOf(text)}`, code);
  // A UTF-16 unit takes 1 to 3 bytes. So neither endless texts are encoded, nor short ones.
  const { length } = text;
  const bytes = length > most || 3 * length <= most ? length : utf8.encode(text).length;
  if (bytes > most) refuse(`${what} has ${bytes} bytes or more, at most ${most} are allowed`, tooLong);
  const bad = /[\p{Cc}\p{Cs}]/u.exec(text);
  if (bad) {
    const half = bad[0] >= "\ud800";
    refuse(`${what} contains ${half ? "half of a surrogate pair" : "a control character"}`, code);
  }
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
}

/** A user ID is 1 to 128 bytes of UTF-8 without control characters; else `invalid_user_id`. */
export function checkUserID(userID: unknown): asserts userID is string {
  if (userID === "") refuse("the user ID is empty", "invalid_user_id");
  checkText(userID, limits.MAX_USER_ID_BYTES, "the user ID", "invalid_user_id");
}

/**
 * Returns the valid user IDs of a list, each once, and a failure for each of the others.
 * Something that is not a list of texts is `invalid_request`.
 */
export function checkUserIDs(userIDs: unknown): { valid: string[]; failures: UserFailure[] } {
  const failures: UserFailure[] = [];
  const valid: string[] = [];
  for (const userID of new Set(checkTexts(userIDs, "the list of user IDs"))) {
    try {
      checkUserID(userID);
      valid.push(userID);
    } catch (err) {
      failures.push(failureOf(userID, err as PresenceError));
    }
  }
  return { valid, failures };
}

/** An error as the failure of one user of a list. */
export function failureOf(userID: string, err: PresenceError): UserFailure {
  return { userID, code: err.status ?? 500, error: err.code, message: err.message };
}

function checkTexts(list: unknown, what: string): readonly string[] {
  if (!Array.isArray(list)) return refuse(`${what} must be a list, not ${nameOf(list)}`);
  for (let i = 0; i < list.length; i++) {
    if (typeof list[i] !== "string") refuse(`${what} has ${nameOf(list[i])} at ${i}, not a text`);
  }
  return list as string[];
}

/** The ID of a session, a gateway or a process: 1 to 64 of A-Z a-z 0-9 _ - (PROTOCOL 1). */
export function checkID(id: unknown, what = "sessionID"): string {
  if (typeof id !== "string" || !/^[\w-]{1,64}$/.test(id)) {
    refuse(`${what} must have 1 to ${limits.MAX_SESSION_ID_BYTES} bytes of A-Z a-z 0-9 _ -`);
  }
  return id;
}

/** 0 and "" stand for the default, and for left out (PROTOCOL 1). */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== "" && value !== 0;
}

function checkFlag(flag: unknown, what: string): void {
  if (flag !== undefined && typeof flag !== "boolean") refuse(`${what} must be true or false`);
}

function checkWhole(n: unknown, least: number, most: number, what: string): void {
  if (n === undefined) return;
  if (!Number.isInteger(n) || (n as number) < least || (n as number) > most) {
    refuse(`${what} must be a whole number from ${least} to ${most}`);
  }
}

/** What is wrong with a login (PROTOCOL 4.1). What is undefined is left out. */
export function checkLogin(r: LoginRequest): void {
  if (isGiven(r.sessionID)) checkID(r.sessionID);
  if (isGiven(r.device)) checkText(r.device, limits.MAX_DEVICE_BYTES, "device");
  if (isGiven(r.platform) && (typeof r.platform !== "string" || !/^[a-z0-9-]{1,32}$/.test(r.platform))) {
    refuse(`platform must have 1 to ${limits.MAX_PLATFORM_BYTES} bytes of a-z 0-9 -`);
  }
  checkFlag(r.idle, "idle");
  checkTerms(r);
}

/** What is wrong with the terms of a session or a gateway (PROTOCOL 4.1, 4.7). */
export function checkTerms(r: Pick<OpenRequest, "ttlSeconds" | "graceSeconds">): void {
  if (isGiven(r.ttlSeconds)) checkWhole(r.ttlSeconds, limits.MIN_TTL_SECONDS, limits.MAX_TTL_SECONDS, "ttlSeconds");
  if (isGiven(r.graceSeconds)) checkWhole(r.graceSeconds, limits.MIN_GRACE_SECONDS, limits.MAX_GRACE_SECONDS, "graceSeconds");
}

/**
 * What is wrong with a `set` (PROTOCOL 4.4). A service may allow less for the custom status than
 * is allowed here.
 */
export function checkSet(r: SetRequest): void {
  const { customStatus: text, availability } = r;
  if (text === undefined && availability === undefined) refuse("give customStatus or availability");
  if (text !== undefined) {
    checkText(text, limits.MOST_CUSTOM_STATUS_BYTES, "the custom status", "invalid_request", "custom_status_too_long");
  }
  if (r.expiresInSeconds !== undefined && !text) refuse("an expiry goes with a custom status");
  checkWhole(r.expiresInSeconds, 1, limits.MAX_EXPIRY_SECONDS, "the expiry in seconds");
  if (availability !== undefined && !AVAILABILITIES.includes(availability)) {
    refuse("availability must be available, away, busy, dnd or invisible");
  }
  if (r.availabilityExpiresInSeconds !== undefined && availability === undefined) {
    refuse("an expiry of the availability goes with an availability");
  }
  checkWhole(r.availabilityExpiresInSeconds, 1, limits.MAX_EXPIRY_SECONDS, "the expiry in seconds");
  checkWhole(r.ifRevision, 0, Number.MAX_SAFE_INTEGER, "ifRevision");
  if (r.sessionID !== undefined) checkID(r.sessionID);
}

/** What is wrong with a change of contacts (PROTOCOL 4.6). */
export function checkContacts(r: ContactsRequest): void {
  if (r.replace && (r.add || r.remove)) refuse("give replace, or add and remove");
  for (const list of [r.add, r.remove, r.replace]) {
    if (list === undefined) continue;
    checkTexts(list, "the list of contacts").forEach(checkUserID);
    if (list.length > limits.MAX_CONTACTS) {
      refuse(`a list has ${list.length} contacts, at most ${limits.MAX_CONTACTS} are allowed`, "request_too_large");
    }
  }
}

/** What is wrong with one op of a gateway (PROTOCOL 4.7). */
export function checkOp(o: Op): void {
  checkUserID(o.userID);
  if (o.op === "set") return checkSet(o);
  checkID(o.sessionID);
  if (o.op === "login") checkLogin(o);
  else checkFlag(o.idle, "idle");
}
