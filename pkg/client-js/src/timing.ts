import type { Scope } from "./scope.js";

/** Something between half of a time and all of it. */
export const jitter = (ms: number): number => ms * (0.5 + Math.random() / 2);

/**
 * The wait after n+1 failed attempts, n from 0. It doubles from `first` up to `most`, and is
 * jittered, so that clients that failed together do not come back together.
 */
export const backoff = (n: number, first: number, most: number): number =>
  jitter(Math.min(first * 2 ** n, most));

/**
 * Lets other tasks run. It is no timer: those of a hidden page stand still for up to a minute.
 */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

/** Wakes those who wait. A ring that nobody waits for is kept for the next: one for any number. */
export class Bell {
  #rung = false;
  readonly #waiting = new Set<(rung: boolean) => void>();

  ring(): void {
    this.#rung = this.#waiting.size === 0;
    for (const wake of this.#waiting) wake(true);
    this.#waiting.clear();
  }

  /** Waits for a ring or a time, in ms. It reports whether it rang. */
  async wait(ms: number, scope: Scope): Promise<boolean> {
    scope.check();
    if (this.#rung) {
      this.#rung = false;
      return true;
    }
    let wake!: (rung: boolean) => void;
    const woken = new Promise<boolean>((resolve) => (wake = resolve));
    this.#waiting.add(wake);
    const timer = ms < 2 ** 31 ? setTimeout(wake, ms, false) : undefined;
    try {
      return await scope.wait(woken);
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(wake);
    }
  }
}

/** A lock that is held by one after the other, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs f while nobody else holds the lock. If the scope ends first f does not run. */
  async run<T>(scope: Scope, f: () => Promise<T>): Promise<T> {
    const before = this.#last;
    let release!: () => void;
    this.#last = new Promise<void>((resolve) => (release = resolve));
    try {
      await scope.wait(before);
      return await f();
    } finally {
      void before.then(release);
    }
  }
}
