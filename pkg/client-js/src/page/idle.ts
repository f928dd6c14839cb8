/** Tells when a page has been hidden for so long that nobody seems to be at it. */
export class Idle {
  /** Nobody is at the page. */
  now = false;
  readonly #after: number;
  readonly #changed: (idle: boolean) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `changed` is called `after` milliseconds after the page was hidden, and when it is back. */
  constructor(after: number, changed: (idle: boolean) => void) {
    this.#after = after;
    this.#changed = changed;
  }

  setVisible(visible: boolean): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (visible) this.#set(false);
    else if (this.#after < 2 ** 31) this.#timer = setTimeout(() => this.#set(true), this.#after);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #set(idle: boolean): void {
    if (idle === this.now) return;
    this.now = idle;
    this.#changed(idle);
  }
}
