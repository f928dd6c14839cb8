/** How long a lock is waited for, in milliseconds: a page that is reloaded frees it meanwhile. */
const WAIT_MS = 1_000;

/** One of the browser's Web Locks: of all pages of an origin, one at a time holds it. */
export class TabLock {
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

  /** Takes the lock: at once if it is free, else within a second. It reports whether it is held. */
  async take(): Promise<boolean> {
    if (this.#held) return true;
    const stop = (this.#stop = new AbortController());
    // A busy browser may take longer than a second to give a lock that is free.
    if (await this.#request({ ifAvailable: true }, stop)) return true;
    const timer = setTimeout(() => stop.abort(), WAIT_MS);
    const taken = await this.#request({ signal: stop.signal }, stop);
    clearTimeout(timer);
    return taken;
  }

  /** Frees the lock, or stops waiting for it. */
  release(): void {
    this.#held = false;
    this.#stop?.abort();
  }

  /** Asks for the lock once. The lock is held until `stop` says so. */
  #request(options: LockOptions, { signal }: AbortController): Promise<boolean> {
    return new Promise((resolve) => {
      const hold = (lock: Lock | null): Promise<void> | void => {
        if (!lock || signal.aborted) return resolve(false);
        this.#held = true;
        resolve(true);
        return new Promise((free) => signal.addEventListener("abort", () => free()));
      };
      // A page may have no locks, as in a sandboxed frame.
      this.#locks.request(this.#name, options, hold).catch(() => resolve(false));
    });
  }
}
