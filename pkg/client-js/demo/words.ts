import { isPresenceError, type SessionInfo, type Status, StatusType } from "presence-client";

/** How a user is shown. */
export type Shown = "online" | "away" | "busy" | "dnd" | "invisible" | "offline" | "unlogined" | "unknown";

export function shownOf({ statusType, availability }: Status): Shown {
  switch (statusType) {
    case StatusType.ONLINE:
      return availability === undefined || availability === "available" ? "online" : availability;
    case StatusType.OFFLINE:
      return "offline";
    case StatusType.UNLOGINED:
      return "unlogined";
    case StatusType.UNKNOWN:
      return "unknown";
  }
}

const words: Record<Shown, string> = {
  online: "Online",
  away: "Away",
  busy: "Busy",
  dnd: "Do not disturb",
  invisible: "Invisible",
  offline: "Offline",
  unlogined: "Signed out",
  unknown: "Unknown",
};

export const wordOf = (shown: Shown): string => words[shown];

const span = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Such as "5 minutes ago". The service's clock may differ from this one's by a little. */
export function ago(time: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (seconds < 10) return "just now";
  if (seconds < 60) return span.format(-seconds, "second");
  if (seconds < 3600) return span.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86_400) return span.format(-Math.floor(seconds / 3600), "hour");
  return span.format(-Math.floor(seconds / 86_400), "day");
}

/** The time of day, with the date where that is not today's. */
export function clock(time: string | number, seconds = false): string {
  const date = new Date(time);
  const day = date.toDateString() === new Date().toDateString() ? {} : ({ day: "numeric", month: "short" } as const);
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}), ...day });
}

/** When a user was last seen, or when the text ends: what stands behind the word. */
export function moreOf(status: Status): string {
  if (status.lastSeenAt !== undefined && status.statusType !== StatusType.ONLINE) {
    return `last seen ${ago(status.lastSeenAt)}`;
  }
  return status.customStatusExpiresAt !== undefined && status.customStatus !== "" ? `until ${clock(status.customStatusExpiresAt)}` : "";
}

const platforms: Record<string, string> = { web: "Browser", unknown: "Command line or other" };

export const deviceOf = (session: SessionInfo): string => session.device ?? platforms[session.platform] ?? session.platform;

/** What became of a session, in one word or two. */
export function sessionState(session: SessionInfo): string {
  if (!session.live) {
    return session.lostAt === undefined ? "lost" : `lost ${ago(session.lostAt)}`;
  }
  return session.idle ? "idle" : "active";
}

const sentences: Record<string, string> = {
  invalid_user_id: "A name has 1 to 128 bytes, and no control characters.",
  invalid_request: "The service does not take that.",
  custom_status_too_long: "That text is too long.",
  too_many_sessions: "You are signed in on too many devices. Sign out somewhere first.",
  rate_limited: "That was too fast. Wait a moment, and try again.",
  overloaded: "The service has too much to do. Nothing was done: try again.",
  unavailable: "The service does not answer. Nothing was done: is presenced running?",
  not_connected: "There is no connection. Nothing was done: is presenced running?",
  timeout: "No answer came. Nothing was done: try again.",
  outcome_unknown: "No answer came. It may be done all the same: see what is shown in a moment.",
  session_not_found: "This tab is not signed in any more.",
  session_replaced: "This session was ended elsewhere.",
  closed: "This tab is not signed in any more.",
};

/** An error, for the person who caused it. */
export function sentenceOf(error: unknown): string {
  if (isPresenceError(error)) {
    return sentences[error.code] ?? error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
