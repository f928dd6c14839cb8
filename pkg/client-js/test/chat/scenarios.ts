import { TencentCloudChat } from "../../src/chat/index.js";
import type { ChatEvent } from "../../src/chat/index.js";
import { equal, listen, rejection, until } from "./world.js";
import type { World } from "./world.js";

const { EVENT, TYPES } = TencentCloudChat;

/** What the chat SDK's page shows, by its calls and in its style, with what must come of it. */
export const scenarios: Record<string, (world: World) => Promise<void>> = {
  async "one's own status is set, told and cleared"(world) {
    const alice = world.user("alice");
    const chat = await world.loggedIn(alice);
    const told: ChatEvent[] = [];
    const onUserStatusUpdated = function (event: ChatEvent<"userStatusUpdated">) {
      told.push(event);
    };
    chat.on(EVENT.USER_STATUS_UPDATED, onUserStatusUpdated);
    for (const text of ["in a meeting", ""]) {
      const promise = chat.setSelfStatus({ customStatus: text });
      await promise.then(function (imResponse) {
        const { userID, statusType, customStatus } = imResponse.data;
        equal([imResponse.code, userID, statusType, customStatus], [0, alice, TYPES.USER_STATUS_ONLINE, text], "setSelfStatus");
      });
      await until(() => told.some((e) => hasText(e, alice, text)), `an event with ${text}`);
    }
    chat.off(EVENT.USER_STATUS_UPDATED, onUserStatusUpdated);
    const count = told.length;
    const later = listen(chat);
    await chat.setSelfStatus({ customStatus: "unheard" });
    await until(() => later.some((s) => s.customStatus === "unheard"), "the event for the other handler");
    equal(told.length, count, "events after off");
  },

  async "one's own status and those of others are asked for"(world) {
    const [alice, user0, user1] = [world.user("alice"), world.user("user0"), world.user("user1")];
    const chat = await world.loggedIn(alice);
    await (await world.loggedIn(user0)).setSelfStatus({ customStatus: "listening" });
    let promise = chat.getUserStatus({ userIDList: [`${alice}`] });
    await promise.then(function (imResponse) {
      const { successUserList } = imResponse.data;
      const seen = successUserList.map(({ userID, statusType, customStatus }) => [userID, statusType, customStatus]);
      equal(seen, [[alice, TYPES.USER_STATUS_ONLINE, ""]], "one's own");
    });
    promise = chat.getUserStatus({ userIDList: [user0, user1, "line\nbreak"] });
    await promise.then(function (imResponse) {
      const { successUserList, failureUserList } = imResponse.data;
      const seen = successUserList.map(({ userID, statusType, customStatus }) => [userID, statusType, customStatus]);
      equal(seen, [[user0, TYPES.USER_STATUS_ONLINE, "listening"], [user1, TYPES.USER_STATUS_UNLOGINED, ""]], "others");
      const failed = failureUserList.map(({ userID, code, message }) => [userID, code, message !== ""]);
      equal(failed, [["line\nbreak", "invalid_user_id", true]], "failures");
    });
  },

  async "users are subscribed to, told of as they are, and unsubscribed from"(world) {
    const [user0, user1] = [world.user("user0"), world.user("user1")];
    const chat = await world.loggedIn(world.user("alice"));
    const chat0 = await world.loggedIn(user0);
    const chat1 = await world.loggedIn(user1);
    await chat0.setSelfStatus({ customStatus: "before" });
    const told = listen(chat);
    const heard = (id: string, text: string) => told.some((s) => s.userID === id && s.customStatus === text);

    await chat.subscribeUserStatus({ userIDList: [user0, user1, ""] }).then(function (imResponse) {
      const { failureUserList } = imResponse.data;
      equal(failureUserList.map(({ userID, code }) => [userID, code]), [["", "invalid_user_id"]], "failures of subscribing");
    });
    await until(() => heard(user0, "before") && heard(user1, ""), "a snapshot, without asking");
    await chat0.setSelfStatus({ customStatus: "after" });
    await until(() => heard(user0, "after"), "the event of a subscribed user");

    await chat.unsubscribeUserStatus({ userIDList: [user0] }).then(function (imResponse) {
      equal(imResponse.data.failureUserList, [], "failures of unsubscribing");
    });
    await chat0.setSelfStatus({ customStatus: "unheard" });
    await chat1.setSelfStatus({ customStatus: "heard" });
    await until(() => heard(user1, "heard"), "the event of who is still subscribed");

    await chat.unsubscribeUserStatus();
    await chat1.setSelfStatus({ customStatus: "unheard" });
    await chat1.logout();
    await chat.setSelfStatus({ customStatus: "the last" });
    await until(() => told.some((s) => s.customStatus === "the last"), "one's own event");
    equal(told.filter((s) => s.customStatus === "unheard"), [], "events of who is not subscribed");
  },

  async "who logs out is UNLOGINED, and says so to who subscribed"(world) {
    const user0 = world.user("user0");
    const chat = await world.loggedIn(world.user("alice"));
    const chat0 = await world.loggedIn(user0);
    const told = listen(chat);
    await chat.subscribeUserStatus({ userIDList: [user0] });
    await chat0.logout();
    await until(() => told.at(-1)?.statusType === TYPES.USER_STATUS_UNLOGINED, "UNLOGINED");
    await chat0.login({ userID: user0 });
    await until(() => told.at(-1)?.statusType === TYPES.USER_STATUS_ONLINE, "ONLINE again");
  },

  async "a friend is told of without a subscription"(world) {
    const [alice, bob] = [world.user("alice"), world.user("bob")];
    const chat = await world.loggedIn(alice);
    const told = listen(chat);
    await chat.session!.contacts.add([bob]);
    const friend = await world.loggedIn(bob);
    await friend.setSelfStatus({ customStatus: "hello" });
    await until(() => told.some((s) => s.userID === bob && s.customStatus === "hello"), "the friend's event");
  },

  async "all devices of a user are told of a text that one of them sets"(world) {
    const alice = world.user("alice");
    const [phone, laptop] = [await world.loggedIn(alice), await world.loggedIn(alice)];
    const lists = [listen(phone), listen(laptop)];
    await phone.setSelfStatus({ customStatus: "on the phone" });
    await until(() => lists.every((told) => told.some((s) => s.customStatus === "on the phone")), "an event on each");
  },

  async "2,500 users are subscribed to by one call, and asked for by one"(world) {
    const chat = await world.loggedIn(world.user("alice"));
    const ids = Array.from({ length: 2_500 }, (_, i) => world.user(`many${i}`));
    const told = listen(chat);
    equal((await chat.subscribeUserStatus({ userIDList: ids })).data.failureUserList, [], "failures");
    await until(() => new Set(told.map((s) => s.userID)).size >= ids.length, "a status of each");
    const { successUserList } = (await chat.getUserStatus({ userIDList: ids })).data;
    equal(successUserList.map((s) => s.userID), ids, "users in the order asked");
  },

  async "a handler has its context, and is called once though registered twice"(world) {
    const chat = await world.loggedIn(world.user("alice"));
    const context = { texts: [] as string[] };
    const onUserStatusUpdated = function (this: typeof context, event: ChatEvent<"userStatusUpdated">) {
      this.texts.push(...event.data.map((s) => s.customStatus));
    };
    chat.on(EVENT.USER_STATUS_UPDATED, onUserStatusUpdated, context);
    chat.on(EVENT.USER_STATUS_UPDATED, onUserStatusUpdated, context);
    await chat.setSelfStatus({ customStatus: "heard" });
    await until(() => context.texts.includes("heard"), "the event");
    equal(context.texts.filter((text) => text === "heard"), ["heard"], "texts");
  },

  async "bad input is a typed error, and changes nothing"(world) {
    const alice = world.user("alice");
    const chat = await world.loggedIn(alice);
    const any = chat as unknown as Record<string, (options?: unknown) => Promise<unknown>>;
    const { stopped, table } = badInput;
    for (const [call, options, code] of table) {
      equal(await rejection(any[call]!(options)), code, `${call}(${JSON.stringify(options)})`);
    }
    const { successUserList } = (await chat.getUserStatus({ userIDList: [alice] })).data;
    equal(successUserList.map((s) => s.customStatus), [""], "the text after refusals");

    const fresh = world.create();
    for (const call of stopped) {
      equal(await rejection((fresh as unknown as typeof any)[call]!(validOptions[call])), "not_logged_in", `${call} before login`);
    }
    await chat.logout();
    await chat.logout(); // is no error
    for (const call of stopped) {
      equal(await rejection(any[call]!(validOptions[call])), "not_logged_in", `${call} after logout`);
    }
    for (const [name, handler] of [["no event", () => {}], [EVENT.USER_STATUS_UPDATED, "no function"], [null, null]]) {
      equal(await rejection((async () => (chat.on as (...args: unknown[]) => void)(name, handler))()), "invalid_request", "on");
    }
  },
};

const validOptions: Record<string, unknown> = {
  setSelfStatus: { customStatus: "x" },
  getUserStatus: { userIDList: ["user0"] },
  subscribeUserStatus: { userIDList: ["user0"] },
};

const long = "x".repeat(129);
const lists = [undefined, null, "user0", [], {}, [1], [null], [["user0"]]];
const badInput = {
  stopped: ["setSelfStatus", "getUserStatus", "subscribeUserStatus", "unsubscribeUserStatus"],
  table: [
    ...[undefined, null, 1, "alice"].map((o) => ["setSelfStatus", o, "invalid_request"]),
    ...[undefined, null, 1, {}, "line\nbreak", "\ud800"].map((text) => ["setSelfStatus", { customStatus: text }, "invalid_request"]),
    ["setSelfStatus", { customStatus: "x".repeat(513) }, "custom_status_too_long"],
    ["setSelfStatus", { customStatus: "x".repeat(100_000) }, "custom_status_too_long"],
    ...[0, -1, 1.5, "60", NaN, 1e12].map((s) => ["setSelfStatus", { customStatus: "x", expiresIn: s }, "invalid_request"]),
    ...[undefined, null, 1].map((o) => ["getUserStatus", o, "invalid_request"]),
    ...lists.map((list) => ["getUserStatus", { userIDList: list }, "invalid_request"]),
    ...lists.map((list) => ["subscribeUserStatus", { userIDList: list }, "invalid_request"]),
    ...[null, "user0", {}, [1]].map((list) => ["unsubscribeUserStatus", { userIDList: list }, "invalid_request"]),
    ["unsubscribeUserStatus", 1, "invalid_request"],
    ...[undefined, null, 1, {}].map((o) => ["login", o, o && typeof o === "object" ? "invalid_user_id" : "invalid_request"]),
    ...[1, null, "", long, "\ud800", "a\u0000"].map((id) => ["login", { userID: id }, "invalid_user_id"]),
    ["login", { userID: "somebody else" }, "invalid_request"],
  ] as [string, unknown, string][],
};

function hasText(event: ChatEvent, userID: string, text: string): boolean {
  return event.name === EVENT.USER_STATUS_UPDATED && (event.data as { userID: string; customStatus: string }[]).some((s) => s.userID === userID && s.customStatus === text);
}
