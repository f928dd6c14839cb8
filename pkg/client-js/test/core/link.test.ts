import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusType } from "../../src/index.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { FakeBroker, natsError } from "./fake.js";
import { errorOf, live, presenceOf, record, seen } from "./kit.js";

test("it connects without limit, and says what fails meanwhile", async (t) => {
  const broker = new FakeBroker();
  broker.refuses = natsError("AuthorizationError");
  const presence = broker.presence(t);
  const told = record(presence);
  const error = (await errorOf(presence.connected({ patience: 300 }))) as Error & { code?: string };
  assert.equal(error.code, "not_connected");
  assert.equal(((error.cause as Error).cause as Error).name, "AuthorizationError");
  await eventually("several attempts", () => broker.options.length >= 4);
  const { state } = presence;
  assert.ok(!state.live && state.reason === "disconnected");
  assert.match(state.error!.message, /cannot connect to NATS \(AuthorizationError\)/);
  assert.equal((await errorOf(presence.get(["alice"], { patience: 100 }))).code, "not_connected");
  broker.refuses = undefined;
  await presence.connected();
  await live(presence);
  assert.deepEqual(told.states.slice(-1), ["live"]);
});

test("options are asked for before each attempt, and NATS never reconnects by itself", async (t) => {
  const broker = new FakeBroker();
  let asked = 0;
  const presence = broker.presence(t, { options: async () => ({ token: `t${++asked}`, reconnect: true }) });
  await presence.connected();
  presence.reconnect();
  await eventually("another connection", () => broker.connections.length === 2);
  assert.deepEqual(broker.options.map((o) => o.token), ["t1", "t2"]);
  for (const o of broker.options) assert.deepEqual([o.reconnect, o.waitOnFirstConnect, o.ignoreAuthErrorAbort], [false, false, true]);
});

test("options that throw, and a connect that does, are attempts that failed", async (t) => {
  const broker = new FakeBroker();
  let asked = 0;
  const presence = broker.presence(t, {
    options: () => {
      if (++asked < 3) throw new Error("no token yet");
      return {};
    },
  });
  await presence.connected();
  assert.equal(asked, 3);
  const throwing = broker.presence(t, {
    connect: () => {
      throw new Error("broken");
    },
  });
  const error = await errorOf(throwing.connected({ patience: 200 }));
  assert.match(error.message, /broken/);
});

test("a connection that brings nothing is replaced, one that answers PINGs is not", async (t) => {
  const broker = new FakeBroker();
  const presence = broker.presence(t, { probe: 50 });
  await presence.connected();
  assert.equal(await presence.probe(), true);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(broker.connections.length, 1);
  broker.connection.answersPings = false;
  await eventually("another connection", () => broker.connections.length === 2);
  assert.equal(broker.connections[0]?.isOpen, false);
  await live(presence);
});

test("an answer that does not come makes it ask for a sign of life", async (t) => {
  const broker = new FakeBroker();
  const presence = broker.presence(t, { probe: 1_000_000 });
  await presence.connected();
  await live(presence);
  broker.connection.answersPings = false;
  const asked = errorOf(presence.get(["alice"]));
  await asked;
  // The limit is half of probe: only probe(limit) is quick enough here.
  assert.equal(await presence.probe(20), false);
  await eventually("another connection", () => broker.connections.length === 2);
});

test("a page may suspend, resume, and ask for another connection", async (t) => {
  const service = await startPresenced(t);
  const alice = presenceOf(t, service);
  const bob = presenceOf(t, service);
  const session = await alice.login("alice");
  await bob.subscribe(["alice"]);
  const id = session.sessionID;
  const bound = async () => (await session.read()).sessions.find((s) => s.live && s.bound)?.connection?.clientID;
  const first = await bound();

  alice.suspend();
  alice.suspend();
  assert.deepEqual(alice.state, { live: false, reason: "suspended" });
  assert.equal((await errorOf(alice.get(["alice"], { patience: 100 }))).code, "not_connected");
  assert.equal(await alice.probe(100), false);
  alice.reconnect("nonsense");
  assert.equal((await errorOf(alice.get(["alice"], { patience: 200 }))).code, "not_connected");
  alice.resume();
  alice.resume();
  const second = await eventually("alice to be bound anew", async () => {
    const now = await bound();
    return now !== first && now;
  });
  alice.reconnect("the address has changed");
  await eventually("alice to be bound anew again", async () => {
    const now = await bound();
    return now !== second && now;
  });
  assert.equal(session.sessionID, id);
  assert.equal(bob.watched("alice").statusType, StatusType.ONLINE);
});

test("a broker that stands still is noticed, and the connection is replaced when it goes on", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service, { probe: 400 });
  await presence.subscribe(["alice"]);
  await service.pause();
  await eventually("it to be noticed", () => !presence.state.live);
  assert.equal(presence.watched("alice").statusType, StatusType.UNKNOWN);
  service.resume();
  await live(presence);
  await seen(presence, "alice", { statusType: StatusType.UNLOGINED });
});

test("a server in lame duck mode is left for another, which is connected first", async (t) => {
  const broker = new FakeBroker();
  const presence = broker.presence(t);
  await presence.connected();
  await live(presence);
  const told = record(presence);
  broker.connection.tell({ type: "ldm", server: "" });
  await eventually("the other server", () => broker.connections.length === 2, 15_000);
  await eventually("the first connection to be closed", () => !broker.connections[0]?.isOpen);
  await eventually("it to be live", () => told.states.at(-1) === "live");
  assert.equal(broker.connections[1]?.isOpen, true);
  assert.ok(!told.states.includes("suspended"));
});

test("a server in lame duck mode is not left for itself", async (t) => {
  const broker = new FakeBroker();
  broker.serverID = "N1";
  const presence = broker.presence(t);
  await live(presence);
  const told = record(presence);
  broker.connection.tell({ type: "ldm", server: "" });
  await eventually("another attempt", () => broker.connections.length === 2, 15_000);
  await eventually("the other connection to be closed", () => !broker.connections[1]?.isOpen);
  assert.equal(broker.connections[0]?.isOpen, true);
  assert.ok(!told.states.includes("disconnected"));
  broker.serverID = undefined;
  await eventually("the other server", () => !broker.connections[0]?.isOpen, 15_000);
});

test("an attempt that was overtaken is closed when it is there after all", async (t) => {
  const broker = new FakeBroker();
  const waiting: (() => void)[] = [];
  const presence = broker.presence(t, {
    connect: async (options) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return broker.connect(options);
    },
  });
  await eventually("an attempt", () => waiting.length === 1);
  presence.suspend();
  waiting[0]?.();
  await eventually("it to be closed", () => broker.connections.length === 1 && !broker.connections[0]?.isOpen);
  presence.resume();
  await eventually("another attempt", () => waiting.length === 2);
  waiting[1]?.();
  await presence.connected();
  assert.equal(broker.connections[1]?.isOpen, true);
});

test("doubt makes it blind while the connection stays", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  await presence.subscribe(["alice"]);
  await live(presence);
  presence.doubt("offline");
  assert.deepEqual(presence.state, { live: false, reason: "offline" });
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.deepEqual(presence.state, { live: false, reason: "offline" });
  assert.equal(presence.watched("alice").statusType, StatusType.UNKNOWN);
  presence.doubt();
  await live(presence);
  assert.equal(presence.watched("alice").statusType, StatusType.UNLOGINED);
});
