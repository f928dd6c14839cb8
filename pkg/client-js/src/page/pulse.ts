import { turn } from "../timing.js";

/** How long nothing of the page may run before it counts as having stood still. */
const STILL_MS = 10_000;
/** How long a page that stood still has to run before it is taken for awake. */
const STEADY_MS = 2_000;
/** What a timer may be late by. In a hidden page timers run once a second. */
const LATE_MS = 2_000;
/** How often the pulse beats by itself. In a page hidden for long it does once a minute. */
const BEAT_MS = 2_000;

/**
 * Whether the page runs. It stands still while it is frozen, while its machine sleeps, while its
 * processes are stopped, and while a script or an `alert()` keeps it busy.
 *
 * Some pages are woken for a moment once in a while. One that then logged in would make its user
 * come and go. So a page that stood still connects only after it has run for 2 s.
 */
export class Pulse {
  /** Called when the page runs again. */
  onWake: () => void = () => {};
  #last = Date.now();
  #woke = -Infinity;
  #timer: ReturnType<typeof setInterval> | undefined;

  start(): void {
    this.#timer = setInterval(this.beat, BEAT_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * The page runs at this moment. The time is the wall clock's, because others stand still while
   * a machine sleeps. A clock that is set costs 2 s at most.
   */
  readonly beat = (): void => {
    const now = Date.now();
    const still = now - this.#last > STILL_MS;
    this.#last = now;
    if (!still) return;
    this.#woke = now;
    this.onWake();
  };

  /** The user is back: the page counts as awake at once. */
  awake(): void {
    this.#last = Date.now();
    this.#woke = -Infinity;
  }

  /** Waits until the page has run for 2 s, if it stood still before. */
  async steady(): Promise<void> {
    this.beat();
    for (let rest = this.#rest(); rest > 0; rest = this.#rest()) {
      // Timers that timers have set run once a minute in a page hidden for long; others do not.
      await turn();
      const begun = Date.now();
      await new Promise((resolve) => setTimeout(resolve, rest));
      this.beat();
      if (Date.now() - begun > rest + LATE_MS) this.#woke = Date.now();
    }
  }

  #rest(): number {
    const run = Date.now() - this.#woke;
    return run < 0 ? 0 : STEADY_MS - run; // below 0: the clock was set back
  }
}
