import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { StatusStore } from "../../src/react/store.js";
import { FakeSource, status } from "./fake.js";

const LINGER = 1_000;
let source: FakeSource;
let store: StatusStore;
/** What listeners were called, in order. */
let told: string[];

beforeEach(() => {
  source = new FakeSource();
  store = new StatusStore(source, LINGER);
  told = [];
});

const listen = (name: string, ...ids: string[]) => store.listen(ids, () => told.push(name));
/** What is queued as a microtask has run after it. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Runs f with timers and a clock that stand still until time passes by `pass`. */
async function withClock(f: (pass: (ms: number) => void) => Promise<void>): Promise<void> {
  let now = 0;
  const clock = mock.method(performance, "now", () => now);
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    await f((ms) => {
      now += ms;
      mock.timers.tick(ms);
    });
  } finally {
    mock.timers.reset();
    clock.mock.restore();
  }
}

test("all rows of a render are held by one call, each user once", async () => {
  listen("a", "alice");
  listen("b", "bob");
  listen("a again", "alice", "bob");
  assert.deepEqual(source.calls, []);
  await settled();
  assert.deepEqual(source.calls, ["hold alice bob"]);
});

test("a status is the same object until it changes, and only those who show it are told", async () => {
  listen("a", "alice");
  listen("b", "bob");
  await settled();
  source.tell(status("alice", 1, 5));
  const first = store.get("alice");
  assert.equal(first?.statusType, 1);
  source.tell(status("alice", 1, 5), status("carol", 1, 6)); // nothing new, and nobody's
  assert.equal(store.get("alice"), first);
  assert.deepEqual(told, ["a"]);
  source.tell(status("alice", 2, 7));
  assert.equal(store.get("alice")?.statusType, 2);
  assert.deepEqual(told, ["a", "a"]);
  assert.equal(store.get("carol"), undefined);
});

test("a listener to many users is told once for one event", async () => {
  listen("list", "alice", "bob", "carol");
  await settled();
  source.tell(status("alice", 1, 5), status("bob", 1, 6), status("carol", 2, 7));
  assert.deepEqual(told, ["list"]);
});

test("who is unmounted and mounted again within the linger causes no call", () =>
  withClock(async (pass) => {
    const off = listen("a", "alice");
    off(); // as StrictMode does
    const offAgain = listen("a", "alice");
    await settled();
    offAgain();
    pass(LINGER - 1);
    const offThird = listen("a", "alice"); // scrolled in again
    pass(10 * LINGER);
    assert.deepEqual(source.calls, ["hold alice"]);
    offThird();
    pass(LINGER + 1);
    assert.deepEqual(source.calls, ["hold alice", "release alice"]);
    assert.equal(source.listeners, 0);
    assert.equal(store.get("alice"), undefined);
  }));

test("those who left later are let go later, and a user stays while one row shows it", () =>
  withClock(async (pass) => {
    const offs = ["alice", "bob", "carol"].map((id) => listen(id, id));
    const offBob = listen("bob too", "bob");
    await settled();
    offs[0]!();
    offs[1]!();
    pass(LINGER / 2);
    offs[2]!();
    pass(LINGER / 2);
    assert.deepEqual([...source.held.keys()], ["bob", "carol"]);
    pass(LINGER / 2);
    assert.deepEqual([...source.held.keys()], ["bob"]);
    source.tell(status("bob", 1, 5));
    assert.deepEqual(told, ["bob too"]);
    offBob();
    offBob(); // twice is once
    pass(LINGER);
    assert.deepEqual([...source.held.keys()], []);
    assert.equal(source.listeners, 0);
  }));

test("while blind everybody is UNKNOWN, and afterwards what then holds", async () => {
  listen("a", "alice");
  await settled();
  source.tell(status("alice", 1, 5));
  source.become({ live: false, reason: "disconnected" });
  assert.equal(store.get("alice")?.statusType, 0);
  source.become({ live: true });
  assert.equal(store.get("alice")?.statusType, 1);
  assert.deepEqual(told, ["a", "a", "a"]);
});

test("blindness reaches 1,000 users in slices, and live overtakes it", () =>
  withClock(async (pass) => {
    const ids = Array.from({ length: 1_000 }, (_, i) => `user${i}`);
    listen("all", ...ids);
    await settled();
    source.tell(...ids.map((id) => status(id, 1, 5)));
    const types = () => ids.map((id) => store.get(id)!.statusType);
    source.asked = 0;
    source.become({ live: false, reason: "disconnected" });
    assert.equal(types().filter((t) => t === 0).length, 250);
    source.become({ live: true });
    for (let i = 0; i < 10; i++) pass(1);
    assert.ok(types().every((t) => t === 1));
    assert.equal(source.asked, 250 + 1_000); // the slices of the first state were given up
    source.become({ live: false, reason: "disconnected" });
    for (let i = 0; i < 10; i++) pass(1);
    assert.ok(types().every((t) => t === 0));
  }));

test("100,000 users who scroll by leave nothing", () =>
  withClock(async (pass) => {
    for (let i = 0; i < 100_000; i++) {
      const off = listen("row", `user${i}`);
      off();
      if (i % 1_000 === 0) {
        await Promise.resolve();
        pass(LINGER);
        source.calls.length = 0;
      }
    }
    await settled();
    pass(2 * LINGER);
    assert.equal(source.held.size, 0);
    assert.equal(source.listeners, 0);
  }));
