import { Presence } from "../index.js";
import type { PresenceOptions } from "../index.js";
import { openPage } from "../page/index.js";

/** Opens a Presence: in a web page one that goes along with what browsers do to pages. */
export function open(options: PresenceOptions): Presence {
  return typeof document === "undefined" ? new Presence(options) : openPage(options);
}
