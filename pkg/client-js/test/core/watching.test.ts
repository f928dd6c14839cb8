import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { type Presence, type PresenceOptions, type Status, StatusType } from "../../src/index.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { FakeBroker, natsError } from "./fake.js";
import { blindAfter, errorOf, live, presenceOf, record, seen } from "./kit.js";

const { ONLINE, OFFLINE, UNLOGINED, UNKNOWN } = StatusType;
const event = (userID: string) => `presence.v1.status.${userID}`;

/** A service in the test's own process, whose journal the test writes. */
class Service {
  readonly broker = new FakeBroker();
  epoch = "e1";
  revision = 100;
  stale = false;
  /** Gets are answered. */
  answers = true;
  readonly statuses = new Map<string, Status>();

  constructor() {
    this.broker.answer = (subject, { userIDList }) => {
      if (!subject.endsWith(".get") || !this.answers) return undefined;
      const successUserList = (userIDList as string[]).map((id) => this.of(id));
      const { epoch, revision, stale } = this;
      return { successUserList, failureUserList: [], revision, epoch, stale };
    };
  }

  of(userID: string): Status {
    return this.statuses.get(userID) ?? { userID, statusType: UNLOGINED, customStatus: "", revision: 0 };
  }

  /** Changes a text, and returns the event of it. */
  set(userID: string, customStatus: string) {
    const status: Status = { userID, statusType: ONLINE, customStatus, revision: ++this.revision };
    this.statuses.set(userID, status);
    return { ...status, epoch: this.epoch, previousRevision: 0, cause: "set" };
  }

  /** Changes a text, and announces it. */
  announce(userID: string, customStatus: string): void {
    this.broker.connection.publish(event(userID), this.set(userID, customStatus));
  }

  /** Waits until just this user is subscribed to. */
  hears(userID: string): Promise<unknown> {
    const { subscriptions } = this.broker.connection;
    return eventually(`only ${userID} to be heard`, () => subscriptions.size === 1 && subscriptions.has(event(userID)));
  }

  /** Waits until nobody is subscribed to. */
  unheard(): Promise<unknown> {
    return eventually("nobody to be heard", () => this.broker.connection.subscriptions.size === 0);
  }

  watcher(t: TestContext, options: Partial<PresenceOptions> = {}): Presence {
    return this.broker.presence(t, options);
  }
}

const texts = (list: Status[], userID = "alice") => list.filter((s) => s.userID === userID).map((s) => s.customStatus);

test("callbacks get each watched user once, then only changes", async (t) => {
  const service = new Service();
  service.set("alice", "one");
  const presence = service.watcher(t, { resync: 100 });
  const told = record(presence);
  await presence.subscribe(["alice"]);
  await presence.subscribe(["alice"]);
  service.announce("alice", "two");
  service.announce("carol", "nobody watches carol");
  await eventually("the change", () => told.statuses.length === 2);
  const { length } = service.broker.requests;
  await eventually("some regular snapshots", () => service.broker.requests.length > length + 2);
  assert.deepEqual(texts(told.statuses), ["one", "two"]);
  assert.equal(told.statuses.length, 2);
  assert.deepEqual(Object.keys(told.statuses[1]!).sort(), ["customStatus", "revision", "statusType", "userID"]);
  assert.throws(() => (told.statuses[1]!.customStatus = "mine"), TypeError);
});

test("late, repeated and reordered events do no harm", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  const told = record(presence);
  await presence.subscribe(["alice"]);
  const [first, second, third] = ["one", "two", "three"].map((text) => service.set("alice", text));
  for (const e of [second!, first!, third!, second!, third!]) service.broker.connection.publish(event("alice"), e);
  service.broker.connection.publish(event("alice"), { ...service.set("bob", "not alice"), userID: "bob" });
  await eventually("the last", () => texts(told.statuses).at(-1) === "three");
  assert.equal(presence.watched("alice").customStatus, "three");
  assert.ok(!texts(told.statuses).includes("one"));
});

test("nobody hears of a user who was unsubscribed, though a callback was due", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice", "bob"]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const told = record(presence);
  service.announce("alice", "due");
  service.announce("bob", "due");
  await presence.unsubscribe(["alice"]);
  await eventually("bob's change", () => texts(told.statuses, "bob").length === 1);
  assert.deepEqual(texts(told.statuses), []);
  assert.equal(service.broker.connection.subscriptions.has(event("alice")), false);
  assert.equal(presence.watched("alice").statusType, UNKNOWN);
  await presence.unsubscribe();
  await service.unheard();
});

test("a callback that unsubscribes keeps the next one from hearing of it", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice", "bob"]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  presence.on("status", () => void presence.unsubscribe(["alice"]));
  const told = record(presence);
  service.announce("alice", "x");
  service.announce("bob", "x");
  await eventually("bob's change", () => texts(told.statuses, "bob").includes("x"));
  assert.deepEqual(texts(told.statuses), []);
});

test("a callback that throws, or removes itself, stops nobody", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  const uncaught: unknown[] = [];
  const before = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => uncaught.push(error));
  t.after(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of before) process.on("uncaughtException", listener);
  });
  let once = 0;
  const off = presence.on("status", () => {
    once++;
    off();
  });
  presence.on("status", () => {
    throw new Error("mine");
  });
  const told = record(presence);
  await presence.subscribe(["alice"]);
  await eventually("the first", () => told.statuses.length === 1);
  service.announce("alice", "two");
  await eventually("the second", () => told.statuses.length === 2);
  await eventually("the errors to be uncaught", () => uncaught.length === 2);
  assert.equal(once, 1);
});

test("a failed subscribe watches nobody, and leaves what was watched", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice"]);
  service.answers = false;
  assert.equal((await errorOf(presence.subscribe(["alice", "bob"]))).code, "timeout");
  await service.hears("alice");
  service.answers = true;
  service.announce("alice", "still watched");
  await seen(presence, "alice", { customStatus: "still watched" });
});

test("unsubscribing ends a subscribe that is under way", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await live(presence);
  presence.hold(["carol"]);
  service.answers = false;
  const subscribing = presence.subscribe(["alice", "bob", "carol"]);
  await eventually("the subscriptions", () => service.broker.connection.subscriptions.size === 3);
  await presence.unsubscribe(["alice", "carol"]);
  service.answers = true;
  await subscribing;
  presence.release(["carol"]);
  await service.hears("bob");
});

test("holds are counted, beside subscribe", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  const told = record(presence);
  presence.hold(["alice", "bob"]); // not connected yet
  presence.hold(["alice"]);
  await seen(presence, "alice", { statusType: UNLOGINED });
  await presence.subscribe(["bob"]);
  presence.release(["alice", "bob", "nobody"]);
  service.announce("alice", "one");
  service.announce("bob", "one");
  await eventually("both", () => texts(told.statuses).includes("one") && texts(told.statuses, "bob").includes("one"));
  await presence.unsubscribe();
  presence.release(["alice"]);
  presence.release(["alice"]);
  await service.unheard();
  presence.hold(["alice"]);
  await seen(presence, "alice", { customStatus: "one" });
});

test("watch gives the statuses of now, then the changes, and leaves nothing watched", async (t) => {
  const service = new Service();
  service.set("alice", "now");
  const presence = service.watcher(t);
  const told = record(presence);
  const got: string[] = [];
  for await (const status of presence.watch(["alice", "bob"])) {
    got.push(`${status.userID} ${status.customStatus}`);
    if (got.length === 2) {
      for (const text of ["a", "b", "c"]) service.announce("alice", text);
    }
    if (got.length === 3) break;
  }
  assert.deepEqual(got.toSorted(), ["alice c", "alice now", "bob "]);
  await service.unheard();
  assert.deepEqual(told.statuses, []);

  const stream = presence.watch(new Set(["alice"]));
  const [first, second, third] = [stream.next(), stream.next(), stream.next()];
  assert.equal((await first).value?.customStatus, "c");
  service.announce("alice", "d");
  assert.equal((await second).value?.customStatus, "d");
  await stream.return!();
  assert.deepEqual(await third, { done: true, value: undefined });
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("until misses no status, however short, and waits while blind", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await live(presence);
  const short = presence.until(["alice", "bob"], (s) => s.customStatus === "short");
  await eventually("it to be fetched", () => presence.watched("alice").statusType !== UNKNOWN);
  for (const text of ["short", "long"]) service.announce("alice", text);
  assert.equal((await short).userID, "alice");
  await service.unheard();

  assert.equal((await presence.until(["alice"], (s) => s.customStatus === "long")).customStatus, "long");
  await presence.subscribe(["alice"]);
  presence.doubt("offline");
  let early = false;
  const later = presence.until(["alice"], (s) => s.customStatus === "long").then(() => (early = true));
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(early, false);
  presence.doubt();
  await later;
  const thrown = await errorOf(presence.until(["alice"], () => {
    throw new Error("mine");
  }));
  assert.equal(thrown.message, "mine");
});

test("an event that cannot be read makes it blind until everything is fetched", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  const told = record(presence);
  await presence.subscribe(["alice"]);
  await eventually("it to be live", () => told.states.at(-1) === "live");
  for (const body of [[], { ...service.set("alice", "one"), revision: "x" }, { ...service.set("alice", "two"), customStatus: "\ud800" }]) {
    told.states.length = 0;
    service.broker.connection.publish(event("alice"), body);
    await eventually("it to be blind", () => told.states.includes("dropped"));
    await eventually("it to be live again", () => told.states.at(-1) === "live");
  }
  assert.equal(presence.watched("alice").customStatus, "two");
});

test("on another connection everybody is heard anew, before they are fetched", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice"]);
  presence.hold(["bob"]);
  await live(presence);
  await blindAfter(presence, () => service.broker.connection.lose());
  assert.equal(presence.watched("alice").statusType, UNKNOWN);
  await live(presence);
  assert.equal(service.broker.connections.length, 2);
  assert.equal(service.broker.connection.subscriptions.size, 2);
  for (const user of ["alice", "bob"]) {
    service.announce(user, "heard");
    await eventually(user, () => presence.watched(user).customStatus === "heard", 500);
  }
});

test("another epoch: everything is fetched, and only what differs is told", async (t) => {
  const service = new Service();
  service.set("alice", "same");
  service.set("bob", "before");
  const presence = service.watcher(t);
  const told = record(presence);
  await presence.subscribe(["alice", "bob", "carol"]);
  await eventually("all three", () => told.statuses.length === 3);
  service.epoch = "e2";
  service.revision = 10;
  service.statuses.set("alice", { ...service.of("alice"), revision: 5 });
  service.statuses.set("bob", { ...service.of("bob"), revision: 6, customStatus: "after" });
  service.announce("carol", "new");
  await eventually("carol's event", () => texts(told.statuses, "carol").includes("new"));
  await live(presence);
  assert.deepEqual(texts(told.statuses, "bob"), ["before", "after"]);
  assert.equal(presence.watched("bob").revision, 6);
  // Only the revision of alice is another one: that is a difference that can be seen.
  assert.ok(texts(told.statuses).every((text) => text === "same"));
});

test("a journal that went back in its epoch is noticed by a fresh answer", async (t) => {
  const service = new Service();
  service.set("alice", "lost by the restore");
  const presence = service.watcher(t, { resync: 200 });
  const told = record(presence);
  await presence.subscribe(["alice"]);
  service.revision = 50;
  service.statuses.set("alice", { userID: "alice", statusType: OFFLINE, customStatus: "restored", revision: 40 });
  await eventually("the restored status", () => texts(told.statuses).at(-1) === "restored");
  await live(presence);
  assert.ok(told.states.includes("epoch_changed"));
  service.announce("alice", "later");
  await seen(presence, "alice", { customStatus: "later" });
});

test("newly watched users are fetched a second time a moment later", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await live(presence);
  await new Promise((resolve) => setTimeout(resolve, 1_500)); // after the second fetch of everything
  await presence.subscribe(["alice"]);
  service.set("alice", "its event came to a server that did not know of the subscription yet");
  await eventually("it to be known", () => presence.watched("alice").customStatus !== "");
  await live(presence);
});

test("a loss while everything is fetched makes it be fetched again", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice"]);
  await live(presence);
  const usual = service.broker.answer;
  let gets = 0;
  service.broker.answer = async (subject, body) => {
    const answer = await usual(subject, body);
    if (++gets === 1) service.broker.connection.publish(event("alice"), { epoch: 5 }); // it cannot be read
    await new Promise((resolve) => setTimeout(resolve, 20));
    return answer;
  };
  await blindAfter(presence, () => service.broker.connection.publish(event("alice"), { epoch: 5 }));
  await live(presence);
  assert.ok(gets >= 2);
});

test("an answer that is stale makes nobody live, and get says that it is", async (t) => {
  const service = new Service();
  service.stale = true;
  const presence = service.watcher(t, { patience: 300 });
  presence.hold(["alice"]);
  assert.equal((await presence.get(["alice"])).stale, true);
  assert.equal((await errorOf(presence.subscribe(["bob"]))).code, "unavailable");
  await eventually("fetching to fail", () => !presence.state.live && presence.state.reason === "fetch_failed");
  service.stale = false;
  await live(presence);
});

test("a get of many is split into pages, and shows one's own changes", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  const ids = Array.from({ length: 1_234 }, (_, i) => `user${i}`);
  const { statuses } = await presence.get(ids, { fresh: true });
  assert.deepEqual(statuses.map((s) => s.userID), ids);
  const gets = service.broker.requests.map(({ body }) => body);
  assert.deepEqual(gets.map((body) => (body["userIDList"] as string[]).length).sort(), [234, 500, 500]);
  assert.deepEqual(gets.filter((body) => body["fresh"]).length, 1);
  assert.ok(gets.filter((body) => !body["fresh"]).every((body) => body["minRevision"] === 100 && body["epoch"] === "e1"));
});

test("a page that would not fit is asked for in halves", async (t) => {
  const service = new Service();
  const usual = service.broker.answer;
  service.broker.answer = (subject, body) => {
    const { length } = body["userIDList"] as string[];
    return length > 2 ? { code: 413, error: "request_too_large", message: "" } : usual(subject, body);
  };
  const presence = service.watcher(t);
  const { statuses } = await presence.get(["a", "b", "c", "d", "e"]);
  assert.deepEqual(statuses.map((s) => s.userID), ["a", "b", "c", "d", "e"]);
});

test("subscriptions that the broker refuses: subscribe fails, held users make it blind", async (t) => {
  const service = new Service();
  const presence = service.watcher(t, { resync: 300 });
  await presence.subscribe(["alice"]);
  await live(presence);
  const usual = service.broker.answer;
  let denies = true;
  service.broker.answer = (subject, body) => {
    if (denies) service.broker.connection.deny(event("bob"));
    return usual(subject, body);
  };
  assert.equal((await errorOf(presence.subscribe(["bob", "carol"]))).code, "permission_denied");
  await service.hears("alice");
  assert.equal(presence.state.live, true);

  presence.hold(["bob"]);
  await eventually("it to be blind", () => !presence.state.live && presence.state.reason === "refused");
  denies = false;
  await live(presence);
  service.announce("bob", "heard");
  await seen(presence, "bob", { customStatus: "heard" });

  const reload = () => service.broker.connection.deny(event("alice")); // of permissions
  assert.equal((await blindAfter(presence, reload)).error?.code, "permission_denied");
  await live(presence);
  service.announce("alice", "heard");
  await seen(presence, "alice", { customStatus: "heard" });
});

test("too many subscriptions: all are made anew until the broker takes them", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await presence.subscribe(["alice", "bob"]);
  await live(presence);
  service.broker.connection.subscriptions.clear();
  const state = await blindAfter(presence, () => {
    service.broker.connection.tell({ type: "error", error: natsError("maximum subscriptions exceeded") });
  });
  assert.equal(state.reason, "refused");
  await live(presence);
  service.announce("bob", "heard");
  await seen(presence, "bob", { customStatus: "heard" });
});

test("a subscription that brings nothing is made anew when a snapshot shows what it missed", async (t) => {
  const service = new Service();
  const presence = service.watcher(t);
  await live(presence);
  await presence.subscribe(["alice"]); // it is fetched again after a second
  service.broker.connection.subscriptions.clear();
  service.set("alice", "unheard");
  await seen(presence, "alice", { customStatus: "unheard" });
  await eventually("the subscription", () => service.broker.connection.subscriptions.has(event("alice")));
  await live(presence);
});

test("while presenced is killed it is blind and UNKNOWN, then shows what happened", async (t) => {
  const service = await startPresenced(t, { args: ["--grace", "1s"] });
  const [alice, bob] = [presenceOf(t, service), presenceOf(t, service)];
  const session = await alice.login("alice", { graceSeconds: 1 });
  const told = record(bob);
  await bob.subscribe(["alice", "zoe"]);
  for (let i = 0; i < 2; i++) {
    await blindAfter(bob, () => service.kill());
    assert.equal(bob.watched("alice").statusType, UNKNOWN);
    await service.start();
    await live(bob);
    await session.setStatus(`after ${i}`);
    await seen(bob, "alice", { statusType: ONLINE, customStatus: `after ${i}` });
  }
  assert.ok(!told.statuses.some((s) => s.userID === "alice" && s.statusType !== ONLINE));
});

test("a user whose connection is gone is OFFLINE after the grace", async (t) => {
  const service = await startPresenced(t);
  const [alice, bob] = [presenceOf(t, service), presenceOf(t, service)];
  await alice.login("alice", { graceSeconds: 1 });
  await bob.subscribe(["alice"]);
  alice.suspend();
  await seen(bob, "alice", { statusType: OFFLINE });
  alice.resume();
  await seen(bob, "alice", { statusType: ONLINE });
});
