/** The longest time, in milliseconds, that a timer of JavaScript can wait: about 24.8 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Something that lasts until it is ended, with a reason: a call, a connection, a session. What
 * waits within it stops waiting at that moment. It is what a context is in Go.
 *
 * It ends by `end`, with its parents, when a caller's signal is aborted, or after a time.
 */
export class Scope {
  /** A caller's signal has ended it. */
  byCaller = false;
  #reason: unknown;
  #ended = false;
  readonly #listeners = new Set<() => void>();
  #release: (() => void)[] = [];

  constructor(...parents: (Scope | undefined)[]) {
    for (const parent of parents) {
      if (!parent || this.#ended) continue;
      this.#release.push(
        parent.onEnd(() => {
          this.byCaller = parent.byCaller;
          this.end(parent.reason);
        }),
      );
    }
  }

  /** Ends the scope when a caller's signal is aborted, with the signal's reason. */
  follow(signal: AbortSignal | undefined): this {
    if (!signal) return this;
    const abort = () => {
      this.byCaller ||= !this.#ended;
      this.end(signal.reason);
    };
    if (signal.aborted) abort();
    else {
      signal.addEventListener("abort", abort, { once: true });
      this.#release.push(() => signal.removeEventListener("abort", abort));
    }
    return this;
  }

  /** Ends the scope after a time, with a reason. */
  within(ms: number, reason: () => unknown): this {
    if (ms > LONGEST_TIMER_MS || this.#ended) return this;
    const timer = setTimeout(() => this.end(reason()), ms);
    this.#release.push(() => clearTimeout(timer));
    return this;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Why it ended. */
  get reason(): unknown {
    return this.#reason;
  }

  /** Ends the scope, once. What it has taken is given back: timers, listeners. */
  end(reason: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#reason = reason;
    for (const release of this.#release) release();
    this.#release = [];
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener();
  }

  /** Calls the listener once, when the scope ends: at once if it has ended. */
  onEnd(listener: () => void): () => void {
    if (this.#ended) {
      listener();
      return () => {};
    }
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Throws the reason if the scope has ended. */
  check(): void {
    if (this.#ended) throw this.#reason;
  }

  /** What the promise gives or, if the scope ends before that, its reason as the error. */
  wait<T>(promise: PromiseLike<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const off = this.onEnd(() => reject(this.#reason));
      promise.then(
        (value) => (off(), resolve(value)),
        (error) => (off(), reject(error)),
      );
    });
  }

  /** Waits for a time, in milliseconds. */
  sleep(ms: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(ms, LONGEST_TIMER_MS));
    });
    return this.wait(over).finally(() => clearTimeout(timer));
  }
}
