import type { Presence, Status } from "../index.js";
import { sameStatus } from "./status.js";

/** What the store needs of a {@link Presence}. */
export type Source = Pick<Presence, "hold" | "release" | "watched" | "on" | "state">;

/** How long, in milliseconds, a user whom no component shows any more stays watched. */
export const LINGER_MS = 5_000;

/** How many users are looked at in one task when all may have changed. */
const SLICE = 250;

type Listener = () => void;

/** A user whom components show, or showed within the last LINGER_MS. */
interface Entry {
  status: Status;
  readonly listeners: Set<Listener>;
}

/**
 * The statuses of the users whom components show. A status object stays the same until the
 * status changes, as `useSyncExternalStore` requires.
 *
 *     useStatus ─► listen ─► joining ─► Presence.hold      one call for all rows of a render
 *     on("status"), on("state") ─► entries ─► listeners    each at most once a batch
 *     unmount ─► leaving ─► LINGER_MS ─► Presence.release  one call for all that left
 *
 * It remembers nobody but users who are shown or leaving. It listens to the Presence and has
 * a timer only while it remembers somebody.
 */
export class StatusStore {
  /** Rises with each change of any status: who saw this number has seen everything. */
  version = 0;

  readonly #source: Source;
  readonly #lingerMs: number;
  readonly #entries = new Map<string, Entry>();
  /** Users whom the Presence does not hold for us yet. */
  readonly #joining = new Set<string>();
  /** When the last component let go of a user, the earliest first. */
  readonly #leaving = new Map<string, number>();
  #sweeping: ReturnType<typeof setTimeout> | undefined;
  #detach: (() => void) | undefined;
  /** Counts changes of the Presence's state: a later one makes an earlier refresh stop. */
  #refresh = 0;

  constructor(source: Source, lingerMs: number = LINGER_MS) {
    this.#source = source;
    this.#lingerMs = lingerMs;
  }

  /** The status of a user, or undefined while no component listens to the user. */
  get(id: string): Status | undefined {
    return this.#entries.get(id)?.status;
  }

  /**
   * Calls the listener after changes of these users, once for each batch, until the returned
   * function is called. The users are watched meanwhile, and LINGER_MS longer.
   */
  listen(ids: readonly string[], listener: Listener): () => void {
    for (const id of ids) this.#enter(id).listeners.add(listener);
    return () => {
      for (const id of ids) this.#leave(id, listener);
    };
  }

  #enter(id: string): Entry {
    this.#leaving.delete(id);
    let entry = this.#entries.get(id);
    if (!entry) {
      this.#detach ??= this.#attach();
      entry = { status: this.#source.watched(id), listeners: new Set() };
      this.#entries.set(id, entry);
      this.version++;
      if (this.#joining.size === 0) queueMicrotask(() => this.#hold());
      this.#joining.add(id);
    }
    return entry;
  }

  #hold(): void {
    const ids = [...this.#joining];
    this.#joining.clear();
    this.#source.hold(ids);
    this.#update(ids);
  }

  #leave(id: string, listener: Listener): void {
    const entry = this.#entries.get(id);
    if (!entry?.listeners.delete(listener) || entry.listeners.size > 0) return;
    this.#leaving.set(id, performance.now());
    if (this.#sweeping === undefined) this.#sweepIn(this.#lingerMs);
  }

  #sweepIn(ms: number): void {
    this.#sweeping = setTimeout(() => this.#sweep(), ms);
  }

  /** Forgets those who left LINGER_MS ago. */
  #sweep(): void {
    this.#sweeping = undefined;
    const now = performance.now();
    const gone: string[] = [];
    for (const [id, leftAt] of this.#leaving) {
      const remaining = leftAt + this.#lingerMs - now;
      if (remaining > 0) {
        this.#sweepIn(remaining);
        break;
      }
      gone.push(id);
    }
    for (const id of gone) {
      this.#leaving.delete(id);
      this.#entries.delete(id);
    }
    if (gone.length > 0) this.#source.release(gone);
    if (this.#entries.size === 0) {
      this.#detach?.();
      this.#detach = undefined;
    }
  }

  #attach(): () => void {
    const offStatus = this.#source.on("status", (list) => this.#update(list.map((s) => s.userID)));
    const offState = this.#source.on("state", () => this.#updateAll());
    return () => {
      this.#refresh++;
      offStatus();
      offState();
    };
  }

  /** Looks at everybody, a slice in each task, so that a page of 10,000 rows stays usable. */
  #updateAll(): void {
    const ids = [...this.#entries.keys()];
    const refresh = ++this.#refresh;
    const slice = (from: number): void => {
      if (refresh !== this.#refresh) return;
      this.#update(ids.slice(from, from + SLICE));
      if (from + SLICE < ids.length) setTimeout(slice, 0, from + SLICE);
    };
    slice(0);
  }

  /** Takes over what the Presence knows of these users, and tells who listens to changes. */
  #update(ids: readonly string[]): void {
    const told = new Set<Listener>();
    for (const id of ids) {
      const entry = this.#entries.get(id);
      const status = this.#source.watched(id);
      if (!entry || sameStatus(entry.status, status)) continue;
      entry.status = status;
      for (const listener of entry.listeners) told.add(listener);
      this.version++;
    }
    for (const listener of told) listener();
  }
}

const stores = new WeakMap<Source, StatusStore>();

/** The one store of a Presence: components below several providers share what is watched. */
export function storeOf(source: Source): StatusStore {
  let store = stores.get(source);
  if (!store) stores.set(source, (store = new StatusStore(source)));
  return store;
}
