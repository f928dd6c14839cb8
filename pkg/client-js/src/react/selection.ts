import type { Status } from "../index.js";
import type { StatusStore } from "./store.js";
import { sameStatus, unknownStatus } from "./status.js";

/** The users of one hook, as `useSyncExternalStore` reads them. */
export class Selection {
  readonly #store: StatusStore | undefined;
  readonly #ids: readonly string[];
  readonly #unknown: readonly Status[];
  #statuses: readonly Status[];
  /** The version of the store that #statuses was read from. */
  #version = -1;

  /** Without a store everybody is UNKNOWN, as on a server. */
  constructor(store: StatusStore | undefined, ids: readonly string[]) {
    this.#store = store;
    this.#ids = ids;
    this.#unknown = Object.freeze(ids.map(unknownStatus));
    this.#statuses = this.#unknown;
  }

  /** Makes the users watched, and calls the listener when a status may have changed. */
  readonly subscribe = (listener: () => void): (() => void) =>
    this.#store?.listen(this.#ids, listener) ?? (() => {});

  /** The statuses in the order of the IDs: the same array until one of them changes. */
  readonly read = (): readonly Status[] => {
    const store = this.#store;
    if (!store || store.version === this.#version) return this.#statuses;
    this.#version = store.version;
    const before = this.#statuses;
    const next = this.#ids.map((id, i) => newer(before[i]!, store.get(id) ?? this.#unknown[i]!));
    if (next.some((status, i) => status !== before[i])) this.#statuses = Object.freeze(next);
    return this.#statuses;
  };

  /** What a server renders, and a browser before it has taken the page over. */
  readonly readOnServer = (): readonly Status[] => this.#unknown;
}

/** Keeps the object of a status that says the same. */
const newer = (before: Status, now: Status): Status => (sameStatus(before, now) ? before : now);
