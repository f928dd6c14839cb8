import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusType } from "../../src/index.js";
import { presencectl } from "../kit/commands.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { endOf, errorOf, live, presenceOf, seen, type Way } from "./kit.js";

const { ONLINE, OFFLINE, UNLOGINED, UNKNOWN } = StatusType;

for (const way of ["tcp", "webSocket"] as Way[]) {
  test(`a user logs in, sets a status, is watched, and logs out: ${way}`, async (t) => {
    const service = await startPresenced(t);
    const alice = presenceOf(t, service, {}, way);
    const bob = presenceOf(t, service, {}, way);
    await alice.connected();
    const session = await alice.login("alice", { platform: "web", device: "laptop" });
    assert.equal(session.userID, "alice");
    assert.match(session.sessionID, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(session.ttlSeconds, 120);
    assert.equal(session.graceSeconds, 5);

    assert.deepEqual(await bob.subscribe(["alice", "nobody"]), { failures: [] });
    assert.equal(bob.watched("alice").statusType, ONLINE);
    assert.equal(bob.watched("nobody").statusType, UNLOGINED);
    assert.equal(bob.watched("somebody else").statusType, UNKNOWN);

    const status = await session.setStatus("in a meeting", { expiresIn: 3600 });
    assert.equal(status.customStatus, "in a meeting");
    await seen(bob, "alice", { customStatus: "in a meeting" });
    await session.setAvailability("busy");
    await seen(bob, "alice", { availability: "busy" });
    await session.setAvailability("available");
    await session.setIdle(true);
    await seen(bob, "alice", { availability: "away" });
    assert.equal((await errorOf(session.setStatus("x", { ifRevision: status.revision }))).code, "revision_conflict");

    await session.logout();
    assert.equal(await session.ended, undefined);
    await seen(bob, "alice", { statusType: UNLOGINED });
    assert.equal((await errorOf(session.setStatus("x"))).code, "closed");
    await session.logout();
  });
}

test("a killed presenced comes back, and nobody notices", async (t) => {
  const service = await startPresenced(t);
  const alice = presenceOf(t, service);
  const bob = presenceOf(t, service);
  const session = await alice.login("alice");
  await session.setIdle(true);
  await bob.subscribe(["alice"]);
  const seenAway = seen(bob, "alice", { availability: "away" });
  await seenAway;
  const told: number[] = [];
  bob.on("status", (list) => told.push(...list.map((s) => s.statusType)));
  await service.kill();
  await eventually("bob to be blind", () => !bob.state.live);
  assert.equal(bob.watched("alice").statusType, UNKNOWN);
  await service.start();
  await live(bob);
  await seen(bob, "alice", { statusType: ONLINE, availability: "away" });
  const bound = await eventually("alice to be bound anew", async () => {
    const { sessions } = await session.read();
    return sessions.find((s) => s.live && s.idle && s.bound);
  });
  assert.equal(bound.sessionID, session.sessionID);
  assert.equal(await session.setStatus("still here").then((s) => s.customStatus), "still here");
  assert.ok(!told.includes(OFFLINE) && !told.includes(UNLOGINED), `told ${told}`);
});

test("a session that was kicked ends, and does not come back", async (t) => {
  const service = await startPresenced(t);
  const alice = presenceOf(t, service);
  const session = await alice.login("alice");
  await presencectl("--server", service.nats, "kick", "alice");
  assert.equal(await endOf(session), "session_replaced");
  assert.equal(session.endReason, "kicked");
  assert.equal((await errorOf(session.setStatus("x"))).code, "session_replaced");
  assert.equal(alice.sessions.size, 0);
  assert.equal((await errorOf(alice.login("alice", { sessionID: session.sessionID }))).code, "session_replaced");
  const { statuses } = await alice.get(["alice"], { fresh: true });
  assert.equal(statuses[0]?.statusType, UNLOGINED);
});
