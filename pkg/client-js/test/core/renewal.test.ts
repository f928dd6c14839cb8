import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { StatusType } from "../../src/index.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { Logins } from "../../src/logins.js";
import { type Answer, FakeBroker } from "./fake.js";
import { endOf, live, presenceOf, seen } from "./kit.js";

/** A session, of a service that answers as the test says. */
async function sessionOf(t: TestContext, ttlSeconds = 1) {
  const broker = new FakeBroker();
  const service = {
    revision: 5,
    /** What the service says of the session. */
    info: { sessionID: "s", platform: "web", live: true, idle: false, bound: true, loginAt: "2026-11-22T10:00:00.000Z" } as Record<string, unknown>,
    errors: new Map<string, Answer[]>(),
  };
  broker.answer = (subject, body) => {
    const op = subject.split(".").at(-1)!;
    const error = service.errors.get(op)?.shift();
    if (error) return error;
    const { revision } = service;
    const status = { userID: "alice", statusType: 1, customStatus: "", revision };
    const reply = { status, revision, epoch: "e", stale: false };
    if (op === "login") {
      service.info = { ...service.info, sessionID: body["sessionID"], connection: body["connection"], device: body["device"] };
      return { sessionID: body["sessionID"] as string, ttlSeconds, graceSeconds: 5, ...reply };
    }
    if (op === "status") return { ...reply, availability: { lasting: "available" }, sessions: [service.info] };
    if (op === "contacts") return { contacts: [], friendNotifications: false, version: 0 };
    if (op === "get") return { ...reply, successUserList: [status], failureUserList: [] };
    return reply;
  };
  const presence = broker.presence(t);
  const session = await presence.login("alice", { sessionID: "s", device: "tab" });
  const self = (event: object) => broker.connection.publish("presence.v1.self.alice", { epoch: "e", revision: ++service.revision, ...event });
  return { broker, service, presence, session, self };
}

const error = (name: string, code: number) => ({ error: name, code, message: name });

test("what is older than the last login is no news of a session", async () => {
  const logins = new Logins({ sessionID: "s" });
  const [own, other] = [{ serverID: "N1", clientID: 1 }, { serverID: "N1", clientID: 2 }];
  const info = { sessionID: "s", platform: "web", idle: false, ttlSeconds: 30, graceSeconds: 5, bound: true, loginAt: "" };
  const lost = { ...info, live: false, connection: own };
  const shared = { ...info, live: true, connection: other };
  assert.equal(logins.see(lost, "e", 5), false); // no login was answered yet
  await logins.next(false, own);
  logins.done("e", 10);
  for (const news of [lost, shared]) assert.equal(logins.see(news, "e", 10), false);
  for (const news of [lost, shared]) assert.equal(logins.see(news, "another epoch", 11), false);
  assert.equal(logins.see({ ...info, live: true, connection: own }, "e", 11), false);
  assert.equal(logins.see(lost, "e", 11), true);
  assert.equal(logins.news, "lost");
  logins.done("e", 12); // a login since has made it old
  assert.equal(logins.news, undefined);
  assert.equal(logins.see(shared, "e", 13), true);
  assert.equal(logins.see(lost, "e", 14), true);
  logins.done("e", 15);
  assert.equal(logins.news, "shared");
});

test("a session renews every third of its TTL", async (t) => {
  const { broker, session } = await sessionOf(t);
  const begun = performance.now();
  await eventually("renewals", () => broker.count(".renew") >= 6);
  const each = (performance.now() - begun) / 6;
  assert.ok(each >= 240, `it renews every ${each} ms`);
  assert.ok(broker.requests.filter((r) => r.subject.endsWith(".renew")).every((r) => r.body["sessionID"] === "s"));
  assert.equal(broker.count(".login"), 1);
  await session.logout();
  const count = broker.count(".renew");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(broker.count(".renew"), count);
});

test("a renewal that fails is tried again, one that was refused for load is not", async (t) => {
  const { broker, service } = await sessionOf(t);
  await eventually("a renewal", () => broker.count(".renew") === 1);
  service.errors.set("renew", [error("internal", 500), error("unavailable", 503)]);
  await eventually("three more", () => broker.count(".renew") === 4, 5_000);
  assert.equal(broker.count(".login"), 1);

  const other = await sessionOf(t, 4);
  other.service.errors.set("renew", [error("overloaded", 503), error("rate_limited", 429)]);
  await eventually("a renewal that is refused", () => other.broker.count(".renew") === 1);
  await new Promise((resolve) => setTimeout(resolve, 600)); // the next is due after 1 s
  assert.equal(other.broker.count(".renew"), 1);
});

test("a session that the service has forgotten, or lost, logs in at once, with its ID", async (t) => {
  const { broker, service, session, self } = await sessionOf(t);
  service.errors.set("renew", [error("session_not_found", 404)]);
  await eventually("a login", () => broker.count(".login") === 2);
  service.revision++;
  self({ type: "sessions", sessions: [{ ...service.info, live: false }] });
  await eventually("another login", () => broker.count(".login") === 3);
  assert.equal(session.sessionID, "s");
  // What is older than the login is no news.
  broker.connection.publish("presence.v1.self.alice", { type: "sessions", epoch: "e", revision: 1, sessions: [{ ...service.info, live: false }] });
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.equal(broker.count(".login"), 3);
});

test("a session that another client has bound goes on under a new ID, without the device", async (t) => {
  const { broker, service, session, self } = await sessionOf(t);
  self({ type: "sessions", sessions: [{ ...service.info, connection: { serverID: "N9", clientID: 9 } }] });
  await eventually("another login", () => broker.count(".login") === 2);
  const { body } = broker.requests.filter((r) => r.subject.endsWith(".login")).at(-1)!;
  assert.notEqual(body["sessionID"], "s");
  assert.equal(body["device"], undefined);
  assert.equal(session.sessionID, body["sessionID"]);
});

test("on a new connection the session logs in again, bound to it, idle as was last wanted", async (t) => {
  const { broker, session } = await sessionOf(t);
  await session.setIdle(true);
  broker.connection.lose();
  await eventually("a login", () => broker.count(".login") === 2);
  const [first, second] = broker.requests.filter((r) => r.subject.endsWith(".login")).map((r) => r.body);
  assert.deepEqual(first!["connection"], { serverID: "N1", clientID: 1 });
  assert.deepEqual(second!["connection"], { serverID: "N2", clientID: 2 });
  assert.deepEqual([first!["idle"], second!["idle"], second!["sessionID"]], [false, true, "s"]);
});

test("a login that is refused on a new connection is tried again, unless it was replaced", async (t) => {
  const { broker, service, session } = await sessionOf(t);
  service.errors.set("login", [error("too_many_sessions", 409), error("internal", 500)]);
  broker.connection.lose();
  await eventually("three attempts", () => broker.count(".login") === 4, 5_000);
  service.errors.set("login", [error("session_replaced", 410)]);
  broker.connection.lose();
  assert.equal(await endOf(session), "session_replaced");
  const count = broker.count(".login");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(broker.count(".login"), count);
});

test("an event kicked ends the session at once, whatever it does", async (t) => {
  const { self, session, broker } = await sessionOf(t);
  self({ type: "kicked", sessionID: "another", reason: "kicked" });
  self({ type: "kicked", sessionID: "s", reason: "erased" });
  assert.equal(await endOf(session), "session_replaced");
  assert.equal(session.endReason, "erased");
  await eventually("self not to be heard", () => !broker.connection.subscriptions.has("presence.v1.self.alice"));
});

test("a journal that went back makes sessions renew at once", async (t) => {
  const { broker, service, presence } = await sessionOf(t, 60); // it renews every 15 s
  await presence.subscribe(["alice"]);
  await live(presence);
  service.errors.set("renew", [error("session_not_found", 404)]);
  await presence.get(["alice"], { fresh: true });
  service.revision = 2;
  await presence.get(["alice"], { fresh: true });
  await eventually("a login", () => broker.count(".login") === 2, 10_000);
});

test("when a user stops being ONLINE the sessions are fetched: no event tells them", async (t) => {
  const { broker, service, session, self } = await sessionOf(t);
  await eventually("the own state", () => session.own);
  const fetches = broker.count(".status");
  const status = { userID: "alice", customStatus: "", revision: ++service.revision };
  self({ type: "status", cause: "set", status: { ...status, statusType: 1 } });
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(broker.count(".status"), fetches);
  self({ type: "status", cause: "lost", status: { ...status, statusType: 2, revision: ++service.revision } });
  await eventually("a fetch", () => broker.count(".status") > fetches);
});

test("a refused subscription to the own events is tried again, and made up for by fetching", async (t) => {
  const { broker, session, presence, service } = await sessionOf(t);
  await eventually("the own state", () => session.own);
  const fetches = broker.count(".status");
  broker.connection.deny("presence.v1.self.alice");
  await eventually("it to be fetched", () => broker.count(".status") > fetches);
  assert.ok(broker.connection.subscriptions.has("presence.v1.self.alice"));
  service.revision++;
  assert.equal(presence.sessions.size, 1);
});

test("an unbound session outlives its connection, and its TTL by renewals", async (t) => {
  const service = await startPresenced(t);
  const [alice, bob] = [presenceOf(t, service), presenceOf(t, service)];
  await bob.subscribe(["alice"]);
  const session = await alice.login("alice", { ttlSeconds: 5, unbound: true });
  assert.equal((await session.read()).sessions[0]?.bound, false);
  const states: number[] = [];
  bob.on("status", (list) => states.push(...list.map((s) => s.statusType)));
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  alice.suspend();
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(states.filter((s) => s !== StatusType.ONLINE), []);
  await seen(bob, "alice", { statusType: StatusType.OFFLINE });
});
