import type { Core } from "./core.js";
import { listOf } from "./watching.js";
import { PresenceError } from "./protocol/errors.js";
import type { Status } from "./protocol/messages.js";
import { Scope } from "./scope.js";
import { Bell } from "./timing.js";
import type { CallOptions } from "./types.js";

/**
 * The statuses of users, first those of now, then each change. While nobody takes them, only the
 * latest of each user is kept. The users are watched from the first `next` to the end.
 */
export class Stream implements AsyncIterableIterator<Status> {
  readonly #core: Core;
  readonly #ids: readonly string[];
  readonly #scope: Scope;
  readonly #pending = new Map<string, Status>();
  readonly #bell = new Bell();
  #watching = false;

  constructor(core: Core, userIDs: Iterable<string>, options: CallOptions | undefined) {
    this.#core = core;
    this.#ids = listOf(userIDs);
    this.#scope = new Scope(core.life).follow(options?.signal);
    this.#scope.onEnd(() => {
      if (this.#watching) core.watching.release(this.#ids, "quiet", this.#take);
      this.#pending.clear();
    });
  }

  readonly #take = (status: Status): void => {
    this.#pending.set(status.userID, status);
    this.#bell.ring();
  };

  async next(): Promise<IteratorResult<Status, undefined>> {
    try {
      this.#scope.check();
      if (this.#ids.length === 0) return await this.return();
      if (!this.#watching) {
        this.#watching = true;
        this.#core.watching.hold(this.#ids, "quiet", this.#take);
      }
      for (;;) {
        const first = this.#pending.entries().next();
        if (!first.done) {
          const [userID, status] = first.value;
          this.#pending.delete(userID);
          return { done: false, value: status };
        }
        await this.#bell.wait(Infinity, this.#scope);
      }
    } catch (reason) {
      if (reason === RETURNED) return { done: true, value: undefined };
      throw reason;
    }
  }

  /** Ends the stream, and a `next` that is under way. */
  return(): Promise<IteratorResult<Status, undefined>> {
    this.#scope.end(RETURNED);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

const RETURNED = new PresenceError("aborted", "the iteration was ended");

/** Waits until a status of one of the users is as wanted, and the client is live. */
export async function until(
  core: Core,
  userIDs: Iterable<string>,
  wanted: (status: Status) => boolean,
  scope: Scope,
): Promise<Status> {
  const ids = listOf(userIDs);
  if (ids.length === 0 || typeof wanted !== "function") {
    throw new PresenceError("invalid_request", "give users to wait for, and a function that tells whom");
  }
  const { watching } = core;
  let found!: (status: Status) => void;
  let failed!: (error: unknown) => void;
  const result = new Promise<Status>((resolve, reject) => {
    found = resolve;
    failed = reject;
  });
  const look = (status: Status) => {
    try {
      if (watching.state.live && wanted(status)) found(status);
    } catch (error) {
      failed(error);
    }
  };
  const lookAtAll = () => {
    for (const id of ids) {
      const user = watching.merge.users.get(id);
      if (user?.fetched) look(user.status!);
    }
  };
  watching.hold(ids, "quiet", look);
  watching.onLive.add(lookAtAll);
  try {
    return await scope.wait(result);
  } finally {
    watching.onLive.delete(lookAtAll);
    watching.release(ids, "quiet", look);
  }
}
