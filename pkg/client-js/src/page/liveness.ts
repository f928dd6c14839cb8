import { jitter } from "../timing.js";

/** How often a visible page asks for a sign of life, in milliseconds; jittered. */
const EVERY_MS = 10_000;
/** How long the answer may take: on a slow network three times as long as the last one took. */
const LIMIT_MS = 2_000;
/** How long it may take at most. Each time that it does not come the limit doubles up to this. */
const LIMIT_MOST_MS = 60_000;

/**
 * Asks the broker for signs of life. An address that changes, or a network that forgets the
 * connection, gives no event: the socket seems open for minutes, and `onLine` stays true. So a
 * visible page asks every 10 s and, however it is seen, whenever something may have changed.
 *
 * A hidden page asks more rarely, as every client does (`PresenceOptions.probe`).
 */
export class Liveness {
  readonly #probe: (limit: number) => Promise<boolean>;
  #limit = LIMIT_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking = false;
  #visible = false;

  /** `probe` replaces a connection that does not answer within the limit, and reports that. */
  constructor(probe: (limit: number) => Promise<boolean>) {
    this.#probe = probe;
  }

  /** Whether the page can be seen. One that comes into view asks at once. */
  setVisible(visible: boolean): void {
    this.#visible = visible;
    if (visible) void this.ask();
    else clearTimeout(this.#timer);
  }

  /** Asks at once, unless it is asking. */
  async ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    const begun = performance.now();
    const alive = await this.#probe(this.#limit).catch(() => false);
    const took = performance.now() - begun;
    if (alive) this.#allow(3 * took);
    // Without a connection the answer comes at once, and says nothing of the network.
    else if (took >= this.#limit) this.#allow(2 * this.#limit);
    this.#asking = false;
    clearTimeout(this.#timer);
    if (this.#visible) this.#timer = setTimeout(() => void this.ask(), jitter(EVERY_MS));
  }

  #allow(limit: number): void {
    this.#limit = Math.min(Math.max(limit, LIMIT_MS), LIMIT_MOST_MS);
  }
}
