import type { LoginReason } from "../types.js";
import { newID } from "../logins.js";
import { TabLock } from "./lock.js";

/** What a session ID is (PROTOCOL 1); storage can hold anything. */
const isID = /^[\w-]{1,64}$/;

/** What of the browser a {@link TabSession} uses. */
export interface TabOptions {
  /** Missing in insecure contexts, such as `http://` pages of another machine. */
  locks: LockManager | undefined;
  /** Missing where the browser forbids it. */
  storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  /** The beginning of all subjects. */
  prefix: string;
  userID: string;
  device: string | undefined;
}

/**
 * The session of one user in one tab: which ID it has, and whether it names the device.
 *
 * The ID outlives a reload in `sessionStorage`, which a browser copies into a duplicated tab. Two
 * tabs with one ID would take the session from each other. So an ID is used only by the tab that
 * holds the Web Lock of its name. A tab that does not get the lock takes a new ID. Without locks
 * or storage each page load takes a new one.
 *
 * A login that names a device ends the device's other sessions. So a device is named only by the
 * tab that holds the lock of the device's name.
 *
 * The lock has one more effect: Chromium does not freeze a page that holds one.
 */
export class TabSession {
  readonly #options: TabOptions;
  readonly #key: string;
  #id: string | undefined;
  #idLock: TabLock | undefined;
  #deviceLock: TabLock | undefined;

  constructor(options: TabOptions) {
    this.#options = options;
    this.#key = `${options.prefix}:session:${options.userID}`;
    const { locks, device } = options;
    if (locks && device !== undefined) {
      this.#deviceLock = new TabLock(locks, `${options.prefix}:device:${options.userID}:${device}`);
    }
  }

  /** The ID for a login: what `LoginOptions.sessionID` asks. */
  async sessionID(why: LoginReason, earlier?: string): Promise<string> {
    if (why === "shared") this.#dropDevice();
    const device = this.#deviceLock?.take();
    const id = await this.#choose(why, earlier);
    // A tab that did not get the device at first does not take it later: the other tab may be in
    // the back-forward cache, and would find its session replaced.
    if ((await device) === false) this.#dropDevice();
    return id;
  }

  /** The device for a login: what `LoginOptions.device` asks. */
  device(): string | undefined {
    return this.#deviceLock?.held ? this.#options.device : undefined;
  }

  /** The page may be gone in a moment, and another needs its locks. */
  release(): void {
    this.#idLock?.release();
    this.#deviceLock?.release();
  }

  /** The session is over: the next login in this tab takes a new ID. */
  forget(): void {
    this.release();
    const { storage } = this.#options;
    attempt(() => {
      if (storage?.getItem(this.#key) === this.#id) storage?.removeItem(this.#key);
    });
  }

  async #choose(why: LoginReason, earlier: string | undefined): Promise<string> {
    const { locks, storage } = this.#options;
    if (!locks) return why === "again" && earlier !== undefined ? earlier : newID();
    if (why !== "shared") {
      const known = earlier ?? attempt(() => storage?.getItem(this.#key)) ?? "";
      if (isID.test(known) && (await this.#take(known, locks))) return known;
    }
    const id = newID();
    await this.#take(id, locks);
    return id;
  }

  async #take(id: string, locks: LockManager): Promise<boolean> {
    if (id !== this.#id) {
      this.#idLock?.release();
      this.#idLock = new TabLock(locks, `${this.#options.prefix}:session:${id}`);
      this.#id = id;
    }
    if (!(await this.#idLock!.take())) return false;
    attempt(() => this.#options.storage?.setItem(this.#key, id));
    return true;
  }

  #dropDevice(): void {
    this.#deviceLock?.release();
    this.#deviceLock = undefined;
  }
}

/** A browser may forbid storage, or have none left: then the next page load takes a new ID. */
function attempt<T>(f: () => T): T | undefined {
  try {
    return f();
  } catch {
    return undefined;
  }
}
