import type { Status } from "../../src/index.js";
import { TencentCloudChat } from "../../src/chat/index.js";
import type { Chat, ChatOptions } from "../../src/chat/index.js";

/** Where scenarios run: in Node or in a page. They use nothing of either. */
export class World {
  readonly #options: ChatOptions;
  readonly #chats: Chat[] = [];
  readonly #name = crypto.randomUUID().slice(0, 8);

  constructor(options: ChatOptions) {
    this.#options = options;
  }

  /** A user ID that no other scenario uses. */
  user(name: string): string {
    return `${name}-${this.#name}`;
  }

  create(options: Partial<ChatOptions> = {}): Chat {
    const chat = TencentCloudChat.create({ ...this.#options, ...options });
    this.#chats.push(chat);
    return chat;
  }

  async loggedIn(userID: string): Promise<Chat> {
    const chat = this.create();
    await chat.login({ userID });
    return chat;
  }

  async close(): Promise<void> {
    await Promise.all(this.#chats.map((chat) => chat.destroy()));
  }
}

/** What a chat's handler has been told, in order. */
export function listen(chat: Chat): Status[] {
  const told: Status[] = [];
  chat.on(TencentCloudChat.EVENT.USER_STATUS_UPDATED, (event) => void told.push(...event.data));
  return told;
}

/** Waits for a condition, for 10 s. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; !condition(); ) {
    if (Date.now() > deadline) throw new Error(`it did not happen within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function equal(got: unknown, want: unknown, what: string): void {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

/** The code that a promise rejects with, within 20 s. */
export async function rejection(promise: Promise<unknown>): Promise<string> {
  const late = new Promise<string>((resolve) => setTimeout(resolve, 20_000, "still open after 20 s"));
  const outcome = promise.then(
    () => "resolved",
    (error: { code?: string; name?: string; message?: string }) =>
      error.name === "PresenceError" && error.message ? error.code! : `${error.name} ${error.message}`,
  );
  return Promise.race([outcome, late]);
}
