// The page of speed.test.ts: what watching 10,000 users takes, beside the raw requests for them.
import { wsconnect } from "@nats-io/nats-core";
import type { NatsConnection } from "@nats-io/nats-core";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { Presence } from "../../src/index.js";
import type { Status } from "../../src/index.js";
import { PresenceProvider, useStatus } from "../../src/react/index.js";

const PAGE = 500;

/** How long a frame takes to be on screen after what is done now. */
const onScreen = () =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));

function Row({ id }: { id: string }) {
  const { statusType, customStatus } = useStatus(id);
  return <li>{`${id} ${statusType} ${customStatus}`}</li>;
}

export const speed = {
  ids: [] as string[],
  nc: undefined as NatsConnection | undefined,
  presence: undefined as Presence | undefined,
  list: document.createElement("ul"),
  longTasks: [] as number[],
  /** Events that have arrived. */
  events: 0,

  async open(server: string, ids: string[]) {
    speed.ids = ids;
    document.body.append(speed.list);
    speed.nc = await wsconnect({ servers: server });
  },

  /** A user's row of the plain page, by its ID. */
  rows: new Map<string, Text>(),

  paint() {
    speed.rows = new Map(speed.ids.map((id) => [id, document.createTextNode(`${id} 0 `)]));
    const items = [...speed.rows.values()].map((text) => {
      const item = document.createElement("li");
      item.append(text);
      return item;
    });
    speed.list.replaceChildren(...items);
    return onScreen();
  },

  write(list: readonly Status[]) {
    for (const s of list) {
      speed.rows.get(s.userID)!.data = `${s.userID} ${s.statusType} ${s.customStatus}`;
    }
  },

  /** Asks for everybody by requests that wait for nothing, and writes the answers: ms. */
  async raw(): Promise<number> {
    await speed.paint();
    const since = performance.now();
    const pages: Promise<void>[] = [];
    for (let i = 0; i < speed.ids.length; i += PAGE) {
      const body = JSON.stringify({ userIDList: speed.ids.slice(i, i + PAGE) });
      const reply = speed.nc!.request("presence.v1.get", body, { timeout: 20_000 });
      pages.push(reply.then((m) => speed.write(m.json<{ successUserList: Status[] }>().successUserList)));
    }
    await Promise.all(pages);
    await onScreen();
    return performance.now() - since;
  },

  /** Watches everybody until their statuses are on screen: ms. */
  async watch(server: string): Promise<number> {
    await speed.paint();
    const presence = new Presence({ connect: wsconnect, options: { servers: server } });
    await presence.connected();
    speed.presence = presence;
    const since = performance.now();
    const told = new Set<string>();
    let done!: () => void;
    const all = new Promise<void>((resolve) => (done = resolve));
    presence.on("status", (list) => {
      speed.write(list);
      speed.events += list.length;
      for (const s of list) told.add(s.userID);
      if (told.size >= speed.ids.length) done();
    });
    await presence.subscribe(speed.ids);
    await all;
    await onScreen();
    return performance.now() - since;
  },

  async unwatch() {
    await speed.presence!.close();
    speed.presence = undefined;
  },

  /** Shows everybody by a row of React each; ms until the last row has its status. */
  async react(server: string): Promise<number> {
    const presence = (speed.presence = new Presence({ connect: wsconnect, options: { servers: server } }));
    presence.on("status", (list) => (speed.events += list.length));
    await presence.connected();
    const since = performance.now();
    flushSync(() =>
      createRoot(speed.list).render(
        <PresenceProvider presence={presence}>
          {speed.ids.map((id) => (
            <Row key={id} id={id} />
          ))}
        </PresenceProvider>,
      ),
    );
    const known = () => [...speed.list.children].every((row) => !row.textContent!.includes(" 0 "));
    while (!known()) await onScreen();
    return performance.now() - since;
  },

  observed: () => ({ events: speed.events, longTasks: speed.longTasks }),

  /** Notes tasks of over 50 ms by the clock from now on. */
  observe() {
    speed.events = 0;
    speed.longTasks.length = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) speed.longTasks.push(entry.duration);
    }).observe({ type: "longtask" });
  },
};

export type Speed = typeof speed;
