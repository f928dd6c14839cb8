import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { connect } from "@nats-io/transport-node";
import { Gateway, openGateway, type GatewayOptions } from "../../src/gateway/index.js";
import { StatusType, type Presence } from "../../src/index.js";
import { errorOf, presenceOf } from "../core/kit.js";
import { presencectl } from "../kit/commands.js";
import { startPresenced, type Presenced, type PresencedOptions } from "../kit/presenced.js";
import { eventually, type Owner } from "../kit/process.js";

const names = Object.entries(StatusType);

/** The statuses of users, in words: "alice ONLINE busy hello". */
async function show(presence: Presence, ...userIDs: string[]): Promise<string[]> {
  const { statuses } = await presence.get(userIDs, { fresh: true });
  return statuses.map((s) => {
    const type = names.find(([, value]) => value === s.statusType)?.[0];
    return [s.userID, type, s.availability, s.customStatus].filter(Boolean).join(" ");
  });
}

/** A presenced that is stopped after its clients: what a test starts later ends sooner. */
async function start(t: TestContext, options?: PresencedOptions): Promise<{ owner: Owner; service: Presenced }> {
  const ends: (() => void | Promise<void>)[] = [];
  t.after(async () => {
    for (const end of ends.reverse()) await end();
  });
  const owner = { after: (end: () => void | Promise<void>) => void ends.push(end) };
  return { owner, service: await startPresenced(owner, options) };
}

/** What becomes of a gateway's requests. */
interface Wire {
  opens: Body[];
  applies: Body[];
  /** The answer to the next apply is lost. */
  deaf: boolean;
}

async function open(owner: Owner, service: Presenced, options?: GatewayOptions, id = "gw1") {
  const wire: Wire = { opens: [], applies: [], deaf: false };
  const presence = presenceOf(owner, service, {
    connect: async (where) => {
      const nc = await connect(where);
      const request = nc.request.bind(nc);
      nc.request = async (subject, data, ...rest) => {
        const body = () => JSON.parse(Buffer.from(data as Uint8Array).toString()) as Body;
        if (subject.endsWith(".open")) wire.opens.push(body());
        if (subject.endsWith(".apply")) wire.applies.push(body());
        const reply = await request(subject, data, ...rest);
        if (!wire.deaf || !subject.endsWith(".apply")) return reply;
        wire.deaf = false;
        throw Object.assign(new Error("timeout"), { name: "TimeoutError" });
      };
      return nc;
    },
  });
  return { presence, wire, gateway: await openGateway(presence, id, options) };
}

interface Body {
  process: string;
  seq: number;
  ops: { op: string; userID: string }[];
}

/** Ends the lease of a gateway behind its back. */
async function endLease(service: Presenced, opens: Body[], id = "gw1"): Promise<void> {
  const nc = await connect({ servers: service.nats });
  const process = opens.at(-1)?.process;
  await nc.request(`presence.v1.gateway.${id}.close`, JSON.stringify({ process }));
  await nc.close();
}

test("users of a gateway log in, set, become idle, are lost, and log out", async (t) => {
  const { owner, service } = await start(t);
  const { presence, gateway } = await open(owner, service);
  await gateway.login("alice", "s1", { device: "phone", platform: "ios" });
  await gateway.setStatus("alice", "hello", { expiresIn: 60, sessionID: "s1" });
  await gateway.setAvailability("alice", "busy");
  assert.deepEqual(await show(presence, "alice"), ["alice ONLINE busy hello"]);
  await gateway.setAvailability("alice", "available");
  await gateway.idle("alice", "s1", true);
  assert.deepEqual(await show(presence, "alice"), ["alice ONLINE away hello"]);
  assert.equal(gateway.sessions, 1);
  await gateway.lost("alice", "s1");
  assert.deepEqual(await show(presence, "alice"), ["alice OFFLINE"]);
  await gateway.lost("alice", "s1"); // somebody was faster
  await gateway.logout("alice", "unknown");
  assert.equal((await errorOf(gateway.idle("alice", "s1", false))).code, "session_not_found");
  const refused = gateway.setStatus("alice", "x", { sessionID: "s1" });
  assert.equal((await errorOf(refused)).code, "session_not_found");
  const conflict = gateway.setStatus("alice", "x", { ifRevision: 1 });
  assert.equal((await errorOf(conflict)).code, "revision_conflict");
  await gateway.login("alice", "s1");
  await gateway.logout("alice", "s1");
  assert.deepEqual(await show(presence, "alice"), ["alice UNLOGINED"]);
  assert.equal(gateway.sessions, 0);
});

test("closing a gateway: sessions are lost, logged out, or left", async (t) => {
  const { owner, service } = await start(t);
  for (const [sessions, want] of [["lose", "OFFLINE"], ["logout", "UNLOGINED"], ["leave", "ONLINE"]] as const) {
    const { presence, gateway } = await open(owner, service, {}, `gw-${sessions}`);
    await gateway.login(`alice-${sessions}`, "s1");
    const last = gateway.setStatus(`bob-${sessions}`, "still done");
    await gateway.close({ sessions });
    await last;
    await gateway.close();
    assert.equal(await gateway.ended, undefined);
    assert.equal((await errorOf(gateway.login("alice", "s1"))).code, "closed");
    assert.deepEqual(await show(presence, `alice-${sessions}`, `bob-${sessions}`), [
      `alice-${sessions} ${want}`,
      `bob-${sessions} UNLOGINED still done`,
    ]);
  }
  const { presence, gateway } = await open(owner, service);
  const other = presenceOf(owner, service);
  await gateway.login("alice", "s1");
  await presence.close();
  assert.deepEqual(await show(other, "alice"), ["alice OFFLINE"]);
  assert.equal((await errorOf(gateway.login("alice", "s1"))).code, "closed");
  assert.equal((await errorOf(openGateway(presence, "gw1"))).code, "closed");
});

test("bad input is refused, and nothing is sent", async (t) => {
  const { owner, service } = await start(t);
  const { presence, wire, gateway } = await open(owner, service);
  const calls: [Promise<unknown>, string][] = [
    [gateway.login("", "s1"), "invalid_user_id"],
    [gateway.login("a\n", "s1"), "invalid_user_id"],
    [gateway.login(7 as never, "s1"), "invalid_user_id"],
    [gateway.login("alice", ""), "invalid_request"],
    [gateway.login("alice", "a.b"), "invalid_request"],
    [gateway.login("alice", undefined as never), "invalid_request"],
    [gateway.login("alice", "s1", { platform: "Win" }), "invalid_request"],
    [gateway.login("alice", "s1", { idle: 1 as never }), "invalid_request"],
    [gateway.login("alice", "s1", { patience: -1 }), "invalid_request"],
    [gateway.lost("alice", "\ud800"), "invalid_request"],
    [gateway.idle("alice", "s1", "yes" as never), "invalid_request"],
    [gateway.setStatus("alice", "x".repeat(4097)), "custom_status_too_long"],
    [gateway.setStatus("alice", "\ud800"), "invalid_request"],
    [gateway.setStatus("alice", "x", { expiresIn: 0.5 }), "invalid_request"],
    [gateway.setAvailability("alice", "asleep" as never), "invalid_request"],
    [gateway.close({ sessions: "burn" as never }), "invalid_request"],
    [openGateway(presence, "a.b"), "invalid_request"],
    [openGateway(presence, "gw2", { ttlSeconds: 1 }), "invalid_request"],
    [openGateway(presence, "gw2", { maxWaiting: 0 }), "invalid_request"],
    [openGateway({} as Presence, "gw2"), "invalid_request"],
  ];
  for (const [call, code] of calls) assert.equal((await errorOf(call)).code, code);
  await gateway.setStatus("alice", "after it all");
  assert.equal(wire.applies.length, 1);
});

test("changes that are called together travel together", async (t) => {
  const callers = 200;
  const rounds = 10;
  const { owner, service } = await start(t);
  const { presence, wire, gateway } = await open(owner, service);
  const caller = async (i: number) => {
    const user = `user${i}`;
    for (let round = 0; round < rounds; round++) {
      const session = `s${round}`;
      await gateway.login(user, session);
      await gateway.setStatus(user, session, { sessionID: session });
      assert.equal((await errorOf(gateway.idle(user, "other", true))).code, "session_not_found");
      if (round < rounds - 1 || i % 2 === 1) await gateway.logout(user, session);
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, i) => caller(i)));
  assert.equal(gateway.sessions, callers / 2);
  const shown = await show(presence, "user0", "user1", "user198", "user199");
  assert.deepEqual(shown, ["user0 ONLINE s9", "user1 UNLOGINED", "user198 ONLINE s9", "user199 UNLOGINED"]);
  const ops = callers * 4 * rounds - callers / 2;
  assert.equal(wire.applies.reduce((sum, body) => sum + body.ops.length, 0), ops);
  wire.applies.forEach((body, i) => assert.equal(body.seq, i + 1));
  assert.ok(wire.applies.every((body) => body.ops.length <= 1000));
  assert.ok(ops / wire.applies.length > callers / 4, `${ops} ops took ${wire.applies.length} requests`);
});

test("many long texts do not make a request larger than a broker takes", async (t) => {
  const { owner, service } = await start(t, { args: ["--max-custom-status", "4096"] });
  const { gateway } = await open(owner, service);
  const text = '"'.repeat(4096);
  await Promise.all(Array.from({ length: 300 }, (_, i) => gateway.setStatus(`user${i}`, text)));
});

test("a request whose answer was lost is not done twice", async (t) => {
  const { owner, service } = await start(t);
  const { presence, wire, gateway } = await open(owner, service);
  await gateway.login("alice", "s1");
  for (const text of ["one", "two"]) {
    const { statuses } = await presence.get(["alice"], { fresh: true });
    wire.deaf = true;
    await gateway.setStatus("alice", text, { ifRevision: statuses[0]!.revision }); // else a conflict
    assert.equal(wire.deaf, false);
  }
  assert.deepEqual(await show(presence, "alice"), ["alice ONLINE two"]);
  assert.deepEqual(wire.applies.map((body) => body.seq), [1, 2, 2, 3, 3]);
});

test("a reconnect is seen by nobody, and what is called meanwhile is done", async (t) => {
  const { owner, service } = await start(t);
  const { presence, wire, gateway } = await open(owner, service);
  const watcher = presenceOf(owner, service);
  for (let i = 0; i < 10; i++) await gateway.login(`user${i}`, "s1");
  const told: string[] = [];
  await watcher.subscribe(Array.from({ length: 10 }, (_, i) => `user${i}`));
  watcher.on("status", (list) => told.push(...list.map((s) => `${s.userID} ${s.statusType} ${s.customStatus}`)));
  presence.reconnect();
  await gateway.setStatus("user0", "back");
  await eventually("the text to be seen", () => told.includes("user0 1 back"));
  assert.equal(wire.opens.length, 2);
  await new Promise((resolve) => setTimeout(resolve, 7_000)); // the grace of 5 s and more
  assert.deepEqual(told.filter((s) => s !== "user0 1 back" && !s.endsWith(" 1 ")), []);
  assert.equal(gateway.sessions, 10);
});

test("a lease that is lost: everybody is logged in again, and who left is not", async (t) => {
  const users = 1200; // more than one request takes
  const { owner, service } = await start(t);
  const ended: string[] = [];
  const { presence, wire, gateway } = await open(owner, service, {
    onSessionEnded: (userID, sessionID, error) => ended.push(`${userID} ${sessionID} ${error.code}`),
  });
  const other = presenceOf(owner, service);
  presence.reconnect();
  await Promise.all(
    Array.from({ length: users }, (_, i) => gateway.login(`user${i}`, "s1", { device: "phone", platform: "ios", idle: true })),
  );

  await endLease(service, wire.opens);
  await other.login("user7", { sessionID: "s2", device: "phone" });
  await Promise.all([
    gateway.logout("user0", "s1"),
    gateway.lost("user1", "s1"),
    gateway.idle("user2", "s1", false),
    gateway.setStatus("user3", "here", { sessionID: "s1" }),
    gateway.login("new", "s1"),
  ]);
  await eventually("the session that was replaced to be told", () => ended.length > 0);
  assert.deepEqual(ended, ["user7 s1 session_replaced"]);
  assert.deepEqual(await show(presence, "user0", "user1", "user2", "user3", "user7", "new", "user1199"), [
    "user0 UNLOGINED",
    "user1 OFFLINE",
    "user2 ONLINE",
    "user3 ONLINE away here",
    "user7 ONLINE",
    "new ONLINE",
    "user1199 ONLINE away",
  ]);
  assert.equal(gateway.sessions, users - 3 + 1); // without users 0, 1 and 7, with the new one
  assert.notEqual(wire.opens.at(-1)?.process, wire.opens[0]?.process);

  await endLease(service, wire.opens); // told by a renewal
  presence.reconnect();
  await eventually("everybody to be back", async () => (await show(presence, "user5"))[0] === "user5 ONLINE away");
});

test("a session goes from one gateway to another, and nobody notices", async (t) => {
  const { owner, service } = await start(t);
  const { presence, gateway } = await open(owner, service);
  const { gateway: second } = await open(owner, service, {}, "gw2");
  await gateway.login("alice", "s1");
  await gateway.login("bob", "s1");
  const told: number[] = [];
  await presence.subscribe(["alice", "bob"]);
  presence.on("status", (list) => told.push(...list.map((s) => s.statusType)));
  await second.login("alice", "s1");
  await gateway.logout("alice", "s1");
  await gateway.close({ sessions: "leave" });
  await second.login("bob", "s1");
  await second.setStatus("bob", "mark");
  await presence.until(["bob"], (s) => s.customStatus === "mark");
  assert.deepEqual(told.filter((type) => type !== StatusType.ONLINE), []);
  assert.equal(second.sessions, 2);
  assert.deepEqual(await show(presence, "alice", "bob"), ["alice ONLINE", "bob ONLINE mark"]);
});

test("a restart under load: every change is done once, and nobody is OFFLINE", async (t) => {
  const callers = 20;
  const { owner, service } = await start(t);
  const { presence, gateway } = await open(owner, service);
  let done = 0;
  let restarted = false;
  const caller = async (i: number) => {
    await gateway.login(`user${i}`, "s1");
    for (let round = 0, more = 5; more > 0; round++, done++) {
      await gateway.setStatus(`user${i}`, String(round), { sessionID: "s1" });
      if (restarted) more--;
    }
  };
  const all = Promise.all(Array.from({ length: callers }, (_, i) => caller(i)));
  await eventually("some to be done", () => done > 100);
  await service.kill();
  await service.start();
  restarted = true;
  await all;
  for (const line of await show(presence, "user0", "user19")) assert.match(line, /ONLINE \d+$/);
});

test("while the service is away: bounds, signals and patience", async (t) => {
  const { owner, service } = await start(t);
  const { presence, gateway } = await open(owner, service, { maxWaiting: 3 });
  await gateway.login("alice", "s1");
  await gateway.login("bob", "s1");
  await service.kill();
  await eventually("the loss to be noticed", () => !presence.state.live);
  const abort = new AbortController();
  const given = errorOf(gateway.setStatus("alice", "given up", { signal: abort.signal }));
  const late = errorOf(gateway.login("carol", "s1", { patience: 100 }));
  const lost = errorOf(gateway.lost("bob", "s1", { patience: 100 }));
  assert.equal((await errorOf(gateway.setStatus("dave", "one too many"))).code, "overloaded");
  const why = new Error("enough");
  abort.abort(why);
  assert.equal((await given) as unknown, why);
  assert.equal((await late).code, "timeout");
  assert.equal((await lost).code, "outcome_unknown");
  await assert.rejects(gateway.setStatus("alice", "x", { signal: abort.signal }), why);
  await gateway.setStatus("erin", "no room", { patience: 50 }).catch(() => {}); // takes the room of what was given up
  await service.start();
  await eventually("the connection to be back", () => presence.state.live);
  await gateway.setStatus("erin", "mark");
  const shown = await show(presence, "alice", "bob", "carol", "dave");
  assert.deepEqual(shown, ["alice ONLINE", "bob OFFLINE", "carol UNLOGINED", "dave UNLOGINED"]);

  await service.kill();
  await eventually("the loss to be noticed", () => !presence.state.live);
  const waiting = errorOf(gateway.setStatus("alice", "never"));
  const begun = Date.now();
  assert.equal((await errorOf(gateway.close({ patience: 200 }))).code, "timeout");
  assert.ok(Date.now() - begun < 10_000);
  assert.ok(["closed", "outcome_unknown"].includes(String((await waiting).code)));
  assert.equal(await gateway.ended, undefined);
});

test("a kicked session is not logged in again", async (t) => {
  const { owner, service } = await start(t);
  const { presence, gateway } = await open(owner, service);
  await gateway.login("alice", "s1");
  await presencectl("--server", service.nats, "kick", "alice");
  assert.equal((await errorOf(gateway.idle("alice", "s1", true))).code, "session_not_found");
  assert.equal((await errorOf(gateway.login("alice", "s1"))).code, "session_replaced");
  assert.equal(gateway.sessions, 0);
  assert.ok(gateway instanceof Gateway);
  assert.deepEqual(await show(presence, "alice"), ["alice UNLOGINED"]);
});
