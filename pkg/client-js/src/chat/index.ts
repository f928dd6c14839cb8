/**
 * The user-status calls of a chat SDK, by its names: `presence-client/chat`.
 *
 *     const chat = TencentCloudChat.create({ connect: wsconnect, options: { servers } });
 *     chat.on(TencentCloudChat.EVENT.USER_STATUS_UPDATED, (event) => show(event.data));
 *     await chat.login({ userID: "alice" });
 *     await chat.subscribeUserStatus({ userIDList: ["bob", "carol"] });
 *
 * A page written against that SDK changes its import and `create`, and nothing else.
 */
import { Chat } from "./chat.js";
import { EVENT, TYPES } from "./constants.js";
import type { ChatOptions } from "./options.js";

export const TencentCloudChat = Object.freeze({
  /** Makes a chat. It connects when somebody logs in. */
  create: (options: ChatOptions): Chat => new Chat(options),
  EVENT,
  TYPES,
});

export default TencentCloudChat;
export { Chat, EVENT, TYPES };
export type { Answer } from "./chat.js";
export type { ChatEvent, EventData, EventName, Handler } from "./events.js";
export type { ChatLogin, ChatOptions } from "./options.js";
