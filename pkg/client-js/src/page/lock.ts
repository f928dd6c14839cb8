/** How long a lock is waited for, in milliseconds: a page that is reloaded frees it meanwhile. */
const WAIT_MS = 500;

/** One of the browser's Web Locks: of all pages of an origin, one at a time holds it. */
export class Lock {
  readonly #locks: LockManager;
  readonly #name: string;
  #stop: AbortController | undefined;
  #held = false;

  constructor(locks: LockManager, name: string) {
    this.#locks = locks;
    this.#name = name;
  }

  get held(): boolean {
    return this.#held;
  }

  /** Takes the lock within half a second. It reports whether the lock is held. */
  async take(): Promise<boolean> {
    if (this.#held) return true;
    const stop = new AbortController();
    this.#stop = stop;
    const timer = setTimeout(() => stop.abort(), WAIT_MS);
    return new Promise<boolean>((resolve) => {
      const hold = (): Promise<void> => {
        clearTimeout(timer);
        this.#held = true;
        resolve(true);
        return new Promise((free) => stop.signal.addEventListener("abort", () => free()));
      };
      this.#locks.request(this.#name, { signal: stop.signal }, hold).catch(() => {
        clearTimeout(timer);
        resolve(false); // somebody else has it, or the page may have no locks
      });
    });
  }

  /** Frees the lock, or stops waiting for it. */
  release(): void {
    this.#held = false;
    this.#stop?.abort();
  }
}
