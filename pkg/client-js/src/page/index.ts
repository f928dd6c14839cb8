import { type Presence } from "../index.js";
import { type PageOptions, PagePresence } from "./page.js";

export type { PageOptions } from "./page.js";

/**
 * Connects a web page to the presence service. It is a {@link Presence} that goes along with what
 * browsers do to pages:
 *
 *     const presence = openPage({ connect: wsconnect, options: { servers: "wss://…" } });
 *     const session = await presence.login("alice");
 *
 * - *Reloaded.* The tab keeps its session ID. Nobody notices, within the grace.
 * - *Left.* The connection is closed without a logout: the user is OFFLINE after the grace.
 * - *Back from the back-forward cache.* A new connection, and the same session.
 * - *Duplicated.* A copy of the tab is a session of its own, and does not name the `device`.
 * - *Hidden.* After a minute the session is idle. Its TTL outlasts the timers of hidden pages,
 *   which run once a minute.
 * - *Frozen.* While logged in the page holds a Web Lock, so Chromium does not freeze it. A page
 *   that stood still logs in only after it has run for 2 s.
 * - *On a dead network.* A visible page asks for a sign of life every 10 s and when it comes into
 *   view, and makes another connection if none comes within 2 s.
 * - *Off line*, as the browser says. The state is blind with the reason `offline` until the broker
 *   answers. Nothing pauses.
 *
 * A login takes `web` as its platform, and a TTL of at least 180 s. A `device` is named by one tab
 * of a browser at a time. Leave it out if tabs may follow each other: a login that names it ends
 * the device's earlier session for good, also that of a page in the back-forward cache.
 *
 * Where the browser gives no Web Locks or no `sessionStorage`, each page load is a new session.
 * Locks need a secure context: `https:`, or `http:` on this machine.
 *
 * It throws `invalid_request` outside of a web page. Workers use {@link Presence}.
 */
export function openPage(options: PageOptions): Presence {
  return new PagePresence(options);
}
