import assert from "node:assert/strict";
import { connect } from "@nats-io/transport-node";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { TencentCloudChat } from "../../src/chat/index.js";
import type { Chat } from "../../src/chat/index.js";
import { Login } from "../../src/chat/login.js";
import { presencectl } from "../kit/commands.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { listen, rejection, World } from "./world.js";

const { EVENT, TYPES } = TencentCloudChat;

/** A service and users of its own. */
async function start(t: TestContext) {
  let world: World | undefined;
  t.after(() => world?.close()); // before the service is gone
  const service = await startPresenced(t);
  world = new World({ connect, patience: 1_000, options: { servers: service.nats } });
  return { service, world, alice: world.user("alice"), bob: world.user("bob") };
}

const calls: Record<string, (chat: Chat) => Promise<unknown>> = {
  setSelfStatus: (chat) => chat.setSelfStatus({ customStatus: "x" }),
  getUserStatus: (chat) => chat.getUserStatus({ userIDList: ["bob"] }),
  subscribeUserStatus: (chat) => chat.subscribeUserStatus({ userIDList: ["bob"] }),
};

/** Codes by which a call may fail that reached nobody, or may not have. */
const AWAY = /^(not_connected|unavailable|timeout|outcome_unknown)$/;

test("who is kicked is told so, and may log in again by hand", async (t) => {
  const { service, world, alice } = await start(t);
  const chat = await world.loggedIn(alice);
  const kicks: unknown[] = [];
  chat.on(EVENT.KICKED_OUT, (event) => kicks.push(event.data.code));
  await presencectl("--server", service.nats, "kick", alice);
  await eventually("KICKED_OUT", () => kicks.length > 0);
  assert.deepEqual(kicks, ["session_replaced"]);
  for (const [name, call] of Object.entries(calls)) assert.equal(await rejection(call(chat)), "not_logged_in", name);
  assert.equal(chat.presence, undefined);
  await chat.login({ userID: alice });
  assert.equal((await chat.setSelfStatus({ customStatus: "back" })).data.customStatus, "back");
});

test("a login that names the same device replaces the earlier one", async (t) => {
  const { world, alice } = await start(t);
  const [first, second] = [world.create(), world.create()];
  const kicks: string[] = [];
  first.on(EVENT.KICKED_OUT, (event) => kicks.push(event.data.code));
  await first.login({ userID: alice, device: "pixel-8" });
  await second.login({ userID: alice, device: "pixel-8" });
  await eventually("KICKED_OUT", () => kicks.length > 0);
  assert.deepEqual(kicks, ["session_replaced"]);
});

test("a repeated login says so, another user's is refused, and a logout ends one under way", async (t) => {
  const { world, alice } = await start(t);
  const chat = world.create();
  const both = await Promise.all([chat.login({ userID: alice }), chat.login({ userID: alice })]);
  assert.deepEqual(both.map((answer) => answer.data.repeatLogin), [false, true]);
  assert.equal(await rejection(chat.login({ userID: "bob" })), "invalid_request");
  await chat.logout();
  const login = rejection(chat.login({ userID: alice }));
  const set = rejection(chat.setSelfStatus({ customStatus: "x" }));
  await chat.logout();
  assert.deepEqual([await login, await set], ["closed", "closed"]);
  const again = chat.login({ userID: alice });
  assert.equal((await again).data.repeatLogin, false);
});

test("a login waits for the logout before it", async (t) => {
  const { service, alice } = await start(t);
  let loggedOut!: () => void;
  const before = new Promise<void>((resolve) => (loggedOut = resolve));
  const nobody = { statuses() {}, netState() {}, ended() {} };
  const login = new Login({ connect, options: { servers: service.nats } }, { userID: alice }, before, nobody);
  await login.presence.connected();
  for (let i = 0; i < 5; i++) {
    // A login that did not wait would have been sent by now, and a fresh read would show it.
    const { statuses } = await login.presence.get([alice], { fresh: true });
    assert.equal(statuses[0]?.statusType, TYPES.USER_STATUS_UNLOGINED);
  }
  loggedOut();
  await login.session;
  assert.equal(login.presence.sessions.size, 1);
  await login.logout();
});

test("each login connects by what it was given, and credentials are asked for anew", async (t) => {
  const { service, world, alice, bob } = await start(t);
  const asked: unknown[] = [];
  const chat = world.create({
    options: async (login) => {
      asked.push([login.userID, login["userSig"]]);
      return { servers: service.nats };
    },
  });
  await chat.login({ userID: alice, userSig: "a" });
  await chat.logout();
  await chat.login({ userID: bob, userSig: "b" });
  assert.deepEqual(asked, [[alice, "a"], [bob, "b"]]);
});

test("an outage is told, calls during it reject, and afterwards the truth is told", async (t) => {
  const { service, world, alice, bob } = await start(t);
  const chat = await world.loggedIn(alice);
  const states: string[] = [];
  chat.on(EVENT.NET_STATE_CHANGE, (event) => states.push(event.data.state));
  const told = listen(chat);
  await chat.subscribeUserStatus({ userIDList: [bob] });
  await service.kill();
  await eventually("disconnected", () => states.at(-1) === "disconnected");
  for (const [name, call] of Object.entries(calls)) assert.match(await rejection(call(chat)), AWAY, name);
  const late = world.create();
  assert.match(await rejection(late.login({ userID: bob })), AWAY, "login");
  assert.equal(await rejection(late.setSelfStatus({ customStatus: "x" })), "not_logged_in");
  assert.deepEqual((await chat.unsubscribeUserStatus({ userIDList: ["nobody"] })).data, { failureUserList: [] });

  await service.start();
  await late.login({ userID: bob });
  await eventually("bob's status", () => told.some((s) => s.userID === bob && s.statusType === 1));
  await eventually("connected", () => states.at(-1) === "connected");
  assert.equal((await chat.setSelfStatus({ customStatus: "still here" })).data.customStatus, "still here");
});

test("a logout that cannot be told rejects, and leaves the chat usable", async (t) => {
  const { service, world, alice } = await start(t);
  const chat = await world.loggedIn(alice);
  await service.kill();
  assert.match(await rejection(chat.logout()), AWAY);
  assert.equal(await rejection(chat.setSelfStatus({ customStatus: "x" })), "not_logged_in");
  await service.start();
  await chat.login({ userID: alice });
});

test("create without a way to connect is refused", () => {
  const create = TencentCloudChat.create as (options?: unknown) => Chat;
  for (const options of [undefined, null, 1, {}, { connect: "ws://127.0.0.1" }]) {
    assert.throws(() => create(options), { name: "PresenceError", code: "invalid_request" });
  }
});
