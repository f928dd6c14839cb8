import type { Status } from "./protocol/messages.js";
import { turn } from "./timing.js";
import type { Own, PresenceEvents, State } from "./types.js";

/** The most statuses that a callback gets at once. */
const BATCH = 500;
/** Callbacks go on in one task for so long. A page draws between two tasks. */
const TASK_MS = 10;
/** The states that may wait. Of more, the oldest pair of "blind" and "live" is dropped. */
const MOST_STATES = 4;

type Listeners = { [E in keyof PresenceEvents]: Set<{ call: (value: PresenceEvents[E]) => void }> };

/**
 * Runs the callbacks, in tasks of their own. What waits is bounded: the latest of each user.
 * Statuses come before the "live" that they led to.
 */
export class Delivery {
  readonly #listeners: Listeners = { status: new Set(), own: new Set(), state: new Set() };
  readonly #statuses = new Map<string, Status>();
  /** What callbacks are called with now. */
  readonly #telling = new Map<string, Status>();
  readonly #owns = new Map<string, Own>();
  #states: State[] = [];
  #running = false;

  on<E extends keyof PresenceEvents>(event: E, call: (value: PresenceEvents[E]) => void): () => void {
    const listener = { call };
    this.#listeners[event].add(listener);
    return () => void this.#listeners[event].delete(listener);
  }

  /** Queues a status. It replaces one of the same user that still waits. */
  status(status: Status): void {
    if (this.#listeners.status.size === 0) return;
    this.#statuses.set(status.userID, status);
    this.#run();
  }

  own(own: Own): void {
    if (this.#listeners.own.size === 0) return;
    this.#owns.set(own.userID, own);
    this.#run();
  }

  /** Queues a state. It replaces the one before it if both are live, or both blind. */
  state(state: State): void {
    if (this.#states.at(-1)?.live === state.live) this.#states.pop();
    this.#states.push(state);
    if (this.#states.length > MOST_STATES) this.#states.splice(0, 2);
    this.#run();
  }

  /** Drops what waits of users who are watched no more: no callback that begins later has it. */
  forget(userID: string): void {
    this.#statuses.delete(userID);
    this.#telling.delete(userID);
  }

  forgetOwn(userID: string): void {
    this.#owns.delete(userID);
  }

  /** Drops all callbacks. */
  close(): void {
    for (const listeners of Object.values(this.#listeners)) listeners.clear();
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#deliver();
  }

  async #deliver(): Promise<void> {
    for (let since = -Infinity; ; ) {
      if (performance.now() - since > TASK_MS) {
        await turn();
        since = performance.now();
      }
      if (this.#statuses.size > 0) {
        this.#tellStatuses();
        await Promise.resolve(); // what callbacks have queued, such as a rendering, counts too
        continue;
      }
      const owns = [...this.#owns.values()];
      const states = this.#states;
      if (owns.length + states.length === 0) break;
      this.#owns.clear();
      this.#states = [];
      for (const own of owns) this.#tell("own", own);
      for (const state of states) this.#tell("state", state);
    }
    this.#running = false;
  }

  #tellStatuses(): void {
    for (const [userID, status] of this.#statuses) {
      this.#statuses.delete(userID);
      if (this.#telling.set(userID, status).size === BATCH) break;
    }
    for (const listener of this.#listeners.status) {
      // A callback before it may have unsubscribed or removed somebody.
      if (this.#telling.size === 0 || !this.#listeners.status.has(listener)) continue;
      guard(() => listener.call([...this.#telling.values()]));
    }
    this.#telling.clear();
  }

  #tell<E extends keyof PresenceEvents>(event: E, value: PresenceEvents[E]): void {
    for (const listener of this.#listeners[event]) {
      if (this.#listeners[event].has(listener)) guard(() => listener.call(value));
    }
  }
}

/** Runs a callback. What it throws is an uncaught error of the program, and stops nothing here. */
function guard(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
