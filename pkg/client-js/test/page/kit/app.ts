import { wsconnect } from "@nats-io/nats-core";
import { openPage } from "../../../src/page/index.js";
import { TabLock } from "../../../src/page/lock.js";
import { Pulse } from "../../../src/page/pulse.js";
import { Sockets } from "../../../src/page/socket.js";
import { TabSession } from "../../../src/page/tab.js";

/**
 * Runs the test page. Its address says what it does, because a page that is reloaded has nothing
 * else to go by:
 *
 *     /?servers=ws://…&user=alice&device=laptop&grace=1&idleAfter=200&probe=0
 *
 * With `servers` it opens the page, and with `user` it logs in. With `pass` the user has a password
 * at the broker, too. Tests go on by the names that are put into the window.
 */
export function run(): void {
  const asked = new URLSearchParams(location.search);
  const counter = { n: 0 };
  setInterval(() => counter.n++, 100); // shows whether timers run
  Object.assign(window, { events: note(), counter, wsconnect, Pulse, Sockets, TabLock, TabSession });
  if (asked.has("servers")) Object.assign(window, { started: start(asked) });
  Object.assign(window, { loaded: true });
}

/** What happens to the page. */
function note(): string[] {
  const events: string[] = [];
  for (const type of ["pagehide", "pageshow"] as const) {
    addEventListener(type, ({ persisted }) => events.push(`${type} ${persisted}`));
  }
  for (const type of ["freeze", "resume"]) document.addEventListener(type, () => events.push(type));
  return events;
}

async function start(asked: URLSearchParams): Promise<void> {
  const user = asked.get("user");
  const pass = asked.get("pass");
  const account = user && pass ? { user, pass, inboxPrefix: `_INBOX.user.${user}` } : {};
  const presence = openPage({
    connect: wsconnect,
    options: { servers: asked.get("servers") ?? "", ...account },
    idleAfter: Number(asked.get("idleAfter") ?? 60_000),
    probe: Number(asked.get("probe") ?? 10_000),
  });
  Object.assign(window, { presence });
  if (!user) return;
  const device = asked.get("device") ?? undefined;
  const graceSeconds = Number(asked.get("grace")) || undefined;
  const session = await presence.login(user, { device, graceSeconds });
  Object.assign(window, { session });
}
