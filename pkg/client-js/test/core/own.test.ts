import assert from "node:assert/strict";
import { test } from "node:test";
import { type Own, type Presence, type Status, StatusType } from "../../src/index.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { writeUsersConfig } from "../kit/users.js";
import { connect } from "@nats-io/transport-node";
import { blindAfter, errorOf, live, presenceOf, record, seen } from "./kit.js";

/** Collects what a user sees of the own state. */
function ownOf(presence: Presence): Own[] {
  const owns: Own[] = [];
  presence.on("own", (own) => owns.push(own));
  return owns;
}

test("what one device changes the others hear", async (t) => {
  const service = await startPresenced(t);
  const [phone, laptop] = [presenceOf(t, service), presenceOf(t, service)];
  const owns = ownOf(laptop);
  const told = record(laptop);
  const here = await laptop.login("alice", { device: "laptop", platform: "linux" });
  await eventually("the first", () => owns.length === 1);
  assert.equal(owns[0]?.userID, "alice");
  assert.deepEqual(owns[0]?.sessions.map((s) => s.device), ["laptop"]);
  const there = await phone.login("alice", { device: "phone" });
  const last = (what: string, is: (own: Own) => boolean) => eventually(what, () => is(owns.at(-1)!));
  await last("the phone's session", (own) => own.sessions.length === 2);
  await there.setStatus("on the phone");
  await last("the text", (own) => own.status.customStatus === "on the phone");
  await there.setAvailability("invisible");
  await last("the availability", (own) => own.availability.lasting === "invisible" && own.status.availability === "invisible");
  assert.equal(here.status?.statusType, StatusType.ONLINE);
  assert.deepEqual(here.own, owns.at(-1));
  await there.contacts.add(["bob", "carol"]);
  await last("the contacts", (own) => own.contacts.length === 2);
  await there.contacts.remove(["bob"]);
  await last("one contact", (own) => own.contacts.join() === "carol");
  await there.setIdle(true);
  await last("the phone to be idle", (own) => own.sessions.some((s) => s.idle));
  await there.logout();
  await last("the phone to be gone", (own) => own.sessions.length === 1);
  // Statuses of the user come in the owner's view, because nobody here watches her.
  assert.ok(told.statuses.some((s) => s.availability === "invisible"));
  await here.logout();
  assert.equal(here.own, undefined);
});

test("a user who is watched here is shown as everybody sees her", async (t) => {
  const service = await startPresenced(t);
  const presence = presenceOf(t, service);
  await presence.subscribe(["alice"]);
  const session = await presence.login("alice");
  await seen(presence, "alice", { statusType: StatusType.ONLINE });
  const told = record(presence);
  await session.setAvailability("invisible");
  await seen(presence, "alice", { statusType: StatusType.OFFLINE });
  await eventually("the callback", () => told.statuses.length > 0);
  assert.ok(told.statuses.every((s) => s.statusType === StatusType.OFFLINE && s.availability === undefined));
  assert.equal(session.status?.availability, "invisible");
});

test("contacts are watched where friend notifications are on, and only then", async (t) => {
  for (const on of [true, false]) {
    const service = await startPresenced(t, { args: on ? ["--friend-notifications"] : [] });
    const [alice, bob] = [presenceOf(t, service), presenceOf(t, service)];
    const told: Status[] = [];
    alice.on("status", (list) => told.push(...list.filter((s) => s.userID !== "alice")));
    const session = await alice.login("alice");
    const reply = await session.contacts.replace(["carol", "bob"]);
    assert.deepEqual([reply.contacts, reply.friendNotifications], [["bob", "carol"], on]);
    const other = await bob.login("bob");
    if (!on) {
      await eventually("the contacts to be known", () => session.own?.contacts.length === 2);
      await other.setStatus("unheard");
      await alice.get(["bob"], { fresh: true });
      assert.deepEqual(told, []);
      assert.equal(alice.watched("bob").statusType, StatusType.UNKNOWN);
      continue;
    }
    await seen(alice, "bob", { statusType: StatusType.ONLINE });
    await other.setStatus("heard");
    await eventually("the text", () => told.some((s) => s.customStatus === "heard"));
    await alice.subscribe(["carol"]);
    await session.contacts.replace([]);
    await seen(alice, "bob", { statusType: StatusType.UNKNOWN });
    await seen(alice, "carol", { statusType: StatusType.UNLOGINED });
    await session.contacts.add(["bob"]);
    await seen(alice, "bob", { customStatus: "heard" });
    await session.logout();
    assert.equal(alice.watched("bob").statusType, StatusType.UNKNOWN);
    assert.equal(alice.watched("carol").statusType, StatusType.UNLOGINED);
  }
});

test("contacts beyond the limit are refused, and change nothing", async (t) => {
  const service = await startPresenced(t);
  const session = await presenceOf(t, service).login("alice");
  await session.contacts.add(Array.from({ length: 2_000 }, (_, i) => `u${i}`));
  assert.equal((await errorOf(session.contacts.add(["one more"]))).code, "request_too_large");
  assert.equal((await session.contacts.read()).contacts.length, 2_000);
});

test("own state is right after presenced was away", async (t) => {
  const service = await startPresenced(t, { args: ["--friend-notifications"] });
  const [phone, laptop] = [presenceOf(t, service), presenceOf(t, service)];
  const here = await laptop.login("alice");
  const there = await phone.login("alice");
  await blindAfter(laptop, () => service.kill());
  laptop.suspend();
  await service.start();
  await live(phone);
  await there.setStatus("meanwhile");
  await there.contacts.add(["bob"]);
  laptop.resume();
  await eventually("the text and the contact", () => here.own?.status.customStatus === "meanwhile" && here.own.contacts.length === 1);
  await seen(laptop, "bob", { statusType: StatusType.UNLOGINED });
});

test("with the shipped permissions a user does all of this, and no other user's things", async (t) => {
  const config = await writeUsersConfig(t, { users: ["alice", "bob"], origins: [] });
  const service = await startPresenced(t, { config: config.file });
  const as = (name: string) => {
    const presence = presenceOf(t, service, { connect, options: { servers: service.nats, ...config.logins.get(name) }, timeout: 500 });
    return presence;
  };
  const [alice, bob] = [as("alice"), as("bob")];
  const session = await alice.login("alice");
  await bob.subscribe(["alice"]);
  await session.setStatus("by permission");
  await seen(bob, "alice", { customStatus: "by permission" });
  await session.contacts.add(["bob"]);
  await eventually("the own state", () => session.own?.contacts.length === 1);
  assert.equal((await errorOf(bob.login("alice", { patience: 2_000 }))).code, "permission_denied");
  assert.equal(bob.sessions.size, 0);
  assert.equal((await bob.get(["alice"])).statuses[0]?.customStatus, "by permission");

  const wrong = presenceOf(t, service, { options: { servers: service.nats, user: "alice", pass: "wrong" } });
  const error = (await errorOf(wrong.connected({ patience: 500 }))) as Error & { code?: string };
  assert.equal(error.code, "not_connected");
  assert.match(error.message, /authorization violation/i);
});
