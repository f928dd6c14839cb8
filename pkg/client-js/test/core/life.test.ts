import assert from "node:assert/strict";
import { test } from "node:test";
import { Presence, StatusType, type PresenceOptions } from "../../src/index.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { FakeBroker } from "./fake.js";
import { endOf, errorOf, presenceOf, seen } from "./kit.js";

test("every call settles when the Presence is closed, and afterwards it is closed", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  const other = presenceOf(t, service);
  const session = await presence.login("alice");
  await other.subscribe(["alice"]);
  const stream = presence.watch(["zoe"]);
  await stream.next();
  const waiting = [stream.next(), presence.until(["zoe"], () => false)].map(errorOf);
  await presence.close();
  for (const error of await Promise.all(waiting)) assert.equal(error.code, "closed");
  assert.equal(await session.ended, undefined);
  assert.deepEqual(presence.state, { live: false, reason: "closed" });
  await seen(other, "alice", { statusType: StatusType.UNLOGINED });

  const calls: Record<string, () => Promise<unknown>> = {
    connected: () => presence.connected(),
    login: () => presence.login("alice"),
    get: () => presence.get(["alice"]),
    subscribe: () => presence.subscribe(["alice"]),
    unsubscribe: () => presence.unsubscribe(),
    until: () => presence.until(["alice"], () => true),
    watch: async () => presence.watch(["alice"]),
    hold: async () => presence.hold(["alice"]),
    setStatus: () => session.setStatus("x"),
    setAvailability: () => session.setAvailability("busy"),
    setIdle: () => session.setIdle(true),
    read: () => session.read(),
    contacts: () => session.contacts.read(),
  };
  for (const [name, call] of Object.entries(calls)) assert.equal((await errorOf(call())).code, "closed", name);
  await session.logout();
  await presence.close();
  presence.suspend();
  presence.resume();
  presence.reconnect();
  assert.equal(await presence.probe(), false);
  presence.doubt("offline");
  presence.doubt();
  presence.release(["alice"]);
  assert.deepEqual(presence.state, { live: false, reason: "closed" });
  assert.equal(presence.watched("alice").statusType, StatusType.UNKNOWN);
});

test("a Presence that never connected closes at once where nobody is logged in", async () => {
  const broker = new FakeBroker();
  broker.refuses = new Error("nobody there");
  const presence = new Presence({ connect: broker.connect });
  const waiting = [presence.connected(), presence.login("alice"), presence.get(["a"]), presence.subscribe(["a"])].map(errorOf);
  presence.hold(["bob"]);
  const begun = performance.now();
  await presence.close();
  assert.ok(performance.now() - begun < 4_000);
  for (const error of await Promise.all(waiting)) assert.equal(error.code, "closed");
  const { length } = broker.options;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(broker.options.length, length);
});

test("a login that close did not see is logged out", async (t) => {
  const broker = new FakeBroker();
  const status = { userID: "alice", statusType: 1, customStatus: "", revision: 5 };
  const change = { status, revision: 5, epoch: "e" };
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  broker.answer = async (subject, body) => {
    if (subject.endsWith("bob.logout")) await held;
    if (subject.endsWith("alice.login")) setTimeout(release, 50);
    if (subject.endsWith(".login")) return { sessionID: body["sessionID"] as string, ttlSeconds: 30, graceSeconds: 5, ...change };
    return change;
  };
  const presence = broker.presence(t, { timeout: 5_000 });
  await presence.login("bob");
  const login = errorOf(presence.login("alice"));
  const closing = presence.close();
  assert.equal((await login).code, "closed");
  await closing;
  assert.equal(broker.count("alice.login"), 1);
  assert.equal(broker.count("alice.logout"), 1);
});

test("await using logs out and closes", async (t) => {
  const service = await startPresenced(t);
  const other = presenceOf(t, service);
  await other.subscribe(["alice", "bob"]);
  let ended: Promise<unknown>;
  {
    await using presence = presenceOf(t, service);
    await presence.login("alice");
    await using session = await presence.login("bob");
    ended = session.ended;
    await seen(other, "bob", { statusType: StatusType.ONLINE });
  }
  assert.equal(await ended, undefined);
  await seen(other, "alice", { statusType: StatusType.UNLOGINED });
  await seen(other, "bob", { statusType: StatusType.UNLOGINED });
});

test("calls while presenced is away wait, and go on when it is back", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  const session = await presence.login("alice");
  await service.stop();
  await eventually("it to be noticed", () => !presence.state.live);
  const calls = [
    presence.get(["alice"]),
    session.setStatus("back"),
    session.setIdle(true),
    presence.subscribe(["bob"]),
    presence.login("carol"),
    session.contacts.add(["bob"]),
    presence.until(["alice"], (s) => s.customStatus === "back"),
  ];
  assert.equal((await errorOf(session.setStatus("x", { patience: 100 }))).code, "not_connected");
  await service.start();
  await Promise.all(calls);
  assert.equal((await presence.get(["alice"])).statuses[0]?.customStatus, "back");
});

test("a device's later login ends the earlier one, and only that", async (t) => {
  const service = await startPresenced(t);
  const [first, second] = [presenceOf(t, service), presenceOf(t, service)];
  const old = await first.login("alice", { device: "phone" });
  const other = await first.login("alice", { device: "laptop" });
  await second.login("alice", { device: "phone" });
  assert.equal(await endOf(old), "session_replaced");
  assert.equal(old.endReason, "replaced");
  assert.deepEqual([...first.sessions], [other]);
});

test("logout with all ends every session, and no device comes back", async (t) => {
  const service = await startPresenced(t);
  const [first, second] = [presenceOf(t, service), presenceOf(t, service)];
  const here = await first.login("alice");
  const there = await second.login("alice");
  await here.logout({ all: true });
  assert.equal(await here.ended, undefined);
  assert.equal(await endOf(there), "session_replaced");
  assert.equal(there.endReason, "logout");
});

test("two clients with one session: the first goes on under another ID, without the device", async (t) => {
  const service = await startPresenced(t);
  const [first, second] = [presenceOf(t, service, { resync: 500 }), presenceOf(t, service, { resync: 500 })];
  const one = await first.login("alice", { sessionID: "s1", device: "tab" });
  const two = await second.login("alice", { sessionID: "s1", device: "tab" });
  await eventually("one of them to take another ID", () => one.sessionID !== two.sessionID);
  const { sessions } = await eventually("both to be live", async () => {
    const own = await two.read();
    return own.sessions.filter((s) => s.live).length === 2 ? own : undefined;
  });
  assert.deepEqual(sessions.map((s) => [s.sessionID === "s1", s.device]).sort(), [[false, undefined], [true, "tab"]]);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(first.sessions.size + second.sessions.size, 2);
  assert.equal((await two.read()).sessions.length, 2);
});

test("functions for session ID and device are asked before each login", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  const asked: unknown[] = [];
  let device = "a";
  const session = await presence.login("alice", {
    sessionID: async (why, earlier) => {
      asked.push([why, earlier]);
      return asked.length === 1 ? "s1" : "s2";
    },
    device: () => device,
  });
  assert.equal(session.sessionID, "s1");
  device = "b";
  presence.reconnect();
  await eventually("the session to be under the other ID", async () => {
    const { sessions } = await session.read();
    return sessions.some((s) => s.sessionID === "s2" && s.device === "b" && s.live);
  });
  assert.equal(session.sessionID, "s2");
  assert.deepEqual(asked.slice(0, 2), [["first", undefined], ["again", "s1"]]);
  const bad = await errorOf(presence.login("bob", { sessionID: () => "not an ID" }));
  assert.equal(bad.code, "invalid_request");
});

test("an erased user's session ends", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  const session = await presence.login("alice");
  await session.setStatus("x");
  await presence.subscribe(["alice"]);
  const { presencectl } = await import("../kit/commands.js");
  await presencectl("--server", service.nats, "erase", "alice", "--yes").catch(() => presencectl("--server", service.nats, "erase", "alice"));
  assert.equal(await endOf(session), "session_replaced");
  assert.equal(session.endReason, "erased");
  await seen(presence, "alice", { statusType: StatusType.UNLOGINED, customStatus: "" });
});

test("bad input is a typed error each, and changes nothing", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  const session = await presence.login("alice");
  const before = await session.read();
  const bad = <T>(value: unknown) => value as T;
  const long = "x".repeat(129);
  const cases: [string, string, () => unknown][] = [
    ["login without an ID", "invalid_user_id", () => presence.login("")],
    ["login of a number", "invalid_user_id", () => presence.login(bad(5))],
    ["login too long", "invalid_user_id", () => presence.login(long)],
    ["login with half a pair", "invalid_user_id", () => presence.login("\ud800")],
    ["login with a control character", "invalid_user_id", () => presence.login("a\n")],
    ["session ID", "invalid_request", () => presence.login("bob", { sessionID: "a b" })],
    ["device", "invalid_request", () => presence.login("bob", { device: long })],
    ["platform", "invalid_request", () => presence.login("bob", { platform: "Web" })],
    ["ttl", "invalid_request", () => presence.login("bob", { ttlSeconds: 4 })],
    ["grace", "invalid_request", () => presence.login("bob", { graceSeconds: 1.5 })],
    ["idle at login", "invalid_request", () => presence.login("bob", { idle: bad("yes") })],
    ["text", "invalid_request", () => session.setStatus(bad(5))],
    ["text of half a pair", "invalid_request", () => session.setStatus("\udc00")],
    ["text too long here", "custom_status_too_long", () => session.setStatus("x".repeat(4097))],
    ["text too long there", "custom_status_too_long", () => session.setStatus("x".repeat(513))],
    ["expiry", "invalid_request", () => session.setStatus("x", { expiresIn: 0 })],
    ["expiry without text", "invalid_request", () => session.setStatus("", { expiresIn: 5 })],
    ["revision", "invalid_request", () => session.setStatus("x", { ifRevision: -1 })],
    ["availability", "invalid_request", () => session.setAvailability(bad("gone"))],
    ["nothing to set", "invalid_request", () => session.set({})],
    ["idle", "invalid_request", () => session.setIdle(bad(1))],
    ["contacts", "invalid_request", () => session.contacts.add(bad("bob"))],
    ["contact's ID", "invalid_user_id", () => session.contacts.replace(["bob", ""])],
    ["too many contacts", "request_too_large", () => session.contacts.add(Array.from({ length: 2001 }, (_, i) => `u${i}`))],
    ["no list", "invalid_request", () => presence.get(bad(undefined))],
    ["a text for a list", "invalid_request", () => presence.get(bad("alice"))],
    ["a list of numbers", "invalid_request", () => presence.subscribe(bad([1]))],
    ["unsubscribe", "invalid_request", () => presence.unsubscribe(bad({}))],
    ["hold a text", "invalid_request", () => presence.hold("alice")],
    ["hold an ID", "invalid_user_id", () => presence.hold(["bob", long])],
    ["watch nothing", "invalid_request", () => presence.watch(bad(undefined))],
    ["watch an ID", "invalid_user_id", () => presence.watch([""])],
    ["until nobody", "invalid_request", () => presence.until([], () => true)],
    ["until nothing", "invalid_request", () => presence.until(["bob"], bad(undefined))],
    ["a signal", "invalid_request", () => presence.get(["alice"], { signal: bad(5) })],
    ["patience", "invalid_request", () => presence.get(["alice"], { patience: NaN })],
    ["an event", "invalid_request", () => presence.on(bad<"status">("statuses"), () => {})],
    ["no callback", "invalid_request", () => presence.on("status", bad(undefined))],
    ["no connect", "invalid_request", () => new Presence(bad({}))],
    ["no options", "invalid_request", () => new Presence(bad(undefined))],
    ["prefix", "invalid_request", () => new Presence({ connect: bad(() => {}), prefix: "a..b" })],
    ["probe", "invalid_request", () => new Presence({ connect: bad(() => {}), probe: -1 })],
    ["resync", "invalid_request", () => new Presence({ connect: bad(() => {}), resync: bad<NonNullable<PresenceOptions["resync"]>>("1") })],
  ];
  for (const [what, code, call] of cases) {
    const error = await errorOf((async () => call())()).catch((e: Error & { code?: string }) => e);
    assert.equal(error.name, "PresenceError", `${what}: ${error}`);
    assert.equal(error.code, code, what);
  }
  const { failures } = await presence.get(["alice", "", long, "\ud800", ""]);
  assert.deepEqual(failures.map((f) => [f.userID, f.code, f.status]), ["", long, "\ud800"].map((id) => [id, "invalid_user_id", 400]));
  assert.deepEqual((await presence.subscribe(["", "bob"])).failures.map((f) => f.code), ["invalid_user_id"]);
  assert.deepEqual(await presence.get([]), { statuses: [], failures: [], revision: 0, epoch: "", stale: false });
  assert.deepEqual(await presence.watch([]).next(), { done: true, value: undefined });
  const after = await session.read();
  assert.deepEqual([after.status, after.sessions, after.availability], [before.status, before.sessions, before.availability]);
});
