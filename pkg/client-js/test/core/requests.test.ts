import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { eventually } from "../kit/process.js";
import { type Answer, FakeBroker, natsError } from "./fake.js";
import { errorOf } from "./kit.js";

const status = { userID: "alice", statusType: 1, customStatus: "", revision: 5 };
const change = { status, revision: 5, epoch: "e" };
const replies: Record<string, object> = {
  login: { sessionID: "s", ttlSeconds: 30, graceSeconds: 5, ...change },
  logout: change,
  renew: change,
  set: change,
  status: { status, availability: { lasting: "available" }, sessions: [], revision: 5, epoch: "e", stale: false },
  contacts: { contacts: [], friendNotifications: false, version: 0 },
  get: { successUserList: [status], failureUserList: [], revision: 5, epoch: "e", stale: false },
};

/** A session of a service that answers as usual, but for one subject, as the test says. */
async function sessionOf(t: TestContext) {
  const broker = new FakeBroker();
  const usual = (subject: string): Answer => replies[subject.split(".").at(-1)!];
  broker.answer = usual;
  const presence = broker.presence(t);
  const session = await presence.login("alice", { sessionID: "s" });
  const only = (end: string, answers: (() => Answer)[]) => {
    broker.answer = (subject) => {
      const answer = subject.endsWith("." + end) ? answers.shift() : undefined;
      return answer ? answer() : usual(subject);
    };
    broker.requests.length = 0;
  };
  return { broker, presence, session, only };
}

const nothing = () => undefined;
const fails = (error: Error) => () => {
  throw error;
};
const error = (name: string, code: number, more: object = {}) => () => ({ error: name, code, message: name, ...more });

test("a change without an answer is outcome_unknown, and is not repeated", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  for (const how of [nothing, error("outcome_unknown", 504)]) {
    only("set", [how]);
    const before = Date.now();
    const e = (await errorOf(session.setStatus("x"))) as { code?: string; sentAt?: number };
    assert.equal(e.code, "outcome_unknown");
    assert.ok(e.sentAt! >= before && e.sentAt! <= Date.now());
    assert.equal(broker.count(".set"), 1);
  }
  only("contacts", [nothing]);
  assert.equal((await errorOf(session.contacts.add(["bob"]))).code, "outcome_unknown");
  assert.equal(broker.count(".contacts"), 1);
});

test("a change under way when the connection is lost is outcome_unknown, a query is repeated", async (t) => {
  const { broker, presence, session, only } = await sessionOf(t);
  const lose = () => {
    setTimeout(() => broker.connection.lose(), 20);
    return undefined;
  };
  only("set", [lose]);
  assert.equal((await errorOf(session.setStatus("x"))).code, "outcome_unknown");
  assert.equal(broker.count(".set"), 1);
  await eventually("another connection", () => broker.connections.length === 2);
  only("get", [lose]);
  const { statuses } = await presence.get(["alice"]);
  assert.equal(statuses[0]?.userID, "alice");
  assert.equal(broker.connections.length, 3);
});

test("what may be repeated is asked again twice when no answer comes", async (t) => {
  const { broker, presence, session, only } = await sessionOf(t);
  only("get", [nothing, error("outcome_unknown", 504)]);
  assert.equal((await presence.get(["alice"])).statuses.length, 1);
  assert.equal(broker.count(".get"), 3);
  only("get", [nothing, nothing, nothing]);
  assert.equal((await errorOf(presence.get(["alice"]))).code, "timeout");
  assert.equal(broker.count(".get"), 3);
  only("contacts", [nothing]);
  assert.deepEqual((await session.contacts.read()).contacts, []);
  only("logout", [nothing]);
  await session.logout();
  assert.equal(broker.count(".logout"), 2);
});

test("overloaded and unavailable are tried again, a change too", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  only("set", [error("overloaded", 503), error("unavailable", 503)]);
  assert.equal((await session.setStatus("x")).revision, 5);
  assert.equal(broker.count(".set"), 3);
  only("set", Array.from({ length: 100 }, () => error("overloaded", 503)));
  assert.equal((await errorOf(session.setStatus("x", { patience: 300 }))).code, "overloaded");
});

test("rate_limited is asked again when it says, but a change is not", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  const limited = error("rate_limited", 429, { retryAfterMs: 300 });
  only("set", [limited]);
  const e = (await errorOf(session.setStatus("x"))) as { code?: string; retryAfterMs?: number };
  assert.deepEqual([e.code, e.retryAfterMs, broker.count(".set")], ["rate_limited", 300, 1]);
  only("renew", [limited]);
  const begun = performance.now();
  await session.setIdle(true);
  assert.ok(performance.now() - begun >= 299);
  assert.equal(broker.count(".renew"), 2);
  only("logout", [limited]);
  await session.logout();
  assert.equal(broker.count(".logout"), 2);
});

test("while nobody answers a request is tried for some seconds, then it is unavailable", async (t) => {
  const { broker, presence, session, only } = await sessionOf(t);
  const nobody = fails(natsError("RequestError", { cause: natsError("NoResponders") }));
  only("set", [nobody, nobody, nobody]);
  assert.equal((await session.setStatus("x")).revision, 5);
  assert.equal(broker.count(".set"), 4);
  only("get", Array.from({ length: 1000 }, () => nobody));
  const begun = performance.now();
  assert.equal((await errorOf(presence.get(["alice"], { patience: 20_000 }))).code, "unavailable");
  assert.ok(performance.now() - begun >= 2_500);
});

test("what nats-core refuses is a typed error", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  const cases: [string, Error][] = [
    ["request_too_large", natsError("InvalidArgumentError")],
    ["permission_denied", natsError("RequestError", { cause: natsError("PermissionViolationError", { operation: "publish" }) })],
  ];
  for (const [code, refusal] of cases) {
    only("set", [fails(refusal)]);
    assert.equal((await errorOf(session.setStatus("x"))).code, code);
    assert.equal(broker.count(".set"), 1);
  }
  only("set", [fails(natsError("ClosedConnectionError"))]);
  assert.equal((await session.setStatus("x")).revision, 5); // it was not sent
});

test("session_replaced is never tried again, and ends the session", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  only("renew", [error("session_replaced", 410)]);
  assert.equal((await errorOf(session.setIdle(true))).code, "session_replaced");
  assert.equal((await session.ended)?.code, "session_replaced");
  assert.equal(broker.count(".renew") + broker.count(".login"), 1);
});

test("a session that the service has forgotten logs in again before a change", async (t) => {
  const { broker, session, only } = await sessionOf(t);
  only("set", [error("session_not_found", 404)]);
  assert.equal((await session.setStatus("x")).revision, 5);
  assert.deepEqual([broker.count(".set"), broker.count(".login")], [2, 1]);
});

test("a call ends with its signal, with the signal's reason", async (t) => {
  const { presence, session, only, broker } = await sessionOf(t);
  const reason = new Error("enough");
  for (const call of [
    (signal: AbortSignal) => presence.get(["alice"], { signal }),
    (signal: AbortSignal) => session.setStatus("x", { signal }),
    (signal: AbortSignal) => session.setIdle(true, { signal }),
    (signal: AbortSignal) => presence.subscribe(["alice"], { signal }),
    (signal: AbortSignal) => presence.login("alice", { signal }),
    (signal: AbortSignal) => presence.until(["alice"], () => false, { signal }),
    (signal: AbortSignal) => presence.watch(["zoe"], { signal })[Symbol.asyncIterator]().next(),
    (signal: AbortSignal) => session.contacts.read({ signal }),
    (signal: AbortSignal) => session.read({ signal }),
    (signal: AbortSignal) => session.logout({ signal }),
  ]) {
    only("none", []);
    broker.answer = () => undefined;
    const aborted = new AbortController();
    const call1 = errorOf(call(aborted.signal));
    setTimeout(() => aborted.abort(reason), 20);
    assert.equal(await call1, reason);
  }
  for (const call of [(signal: AbortSignal) => presence.get(["alice"], { signal })]) {
    broker.requests.length = 0;
    assert.equal(await errorOf(call(AbortSignal.abort(reason))), reason);
    assert.equal(broker.requests.length, 0);
  }
});

test("calls under way are bounded", async (t) => {
  const { presence, broker } = await sessionOf(t);
  broker.answer = () => undefined;
  const waiting = Array.from({ length: 1_000 }, () => errorOf(presence.get(["alice"], { patience: 500 })));
  assert.equal((await errorOf(presence.get(["alice"]))).code, "overloaded");
  await Promise.all(waiting);
  const codes = await errorOf(presence.get(["alice"], { patience: 50 }));
  assert.equal(codes.code, "timeout");
});
