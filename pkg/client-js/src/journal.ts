import { Scope } from "./scope.js";

/** How long a revision must be known before a lower one raises a doubt. */
const SETTLED_MS = 2_000;

/**
 * The revisions of the current epoch that were seen, and made: by them a client notices that the
 * journal went back to an earlier state within its epoch (PROTOCOL 2). A low revision in an
 * answer or event proves nothing, because that may be late. In a fresh answer it does.
 */
export class Journal {
  epoch = "";
  /** The highest revision in answers and events: every fresh answer must include it. */
  seen = 0;
  /** The revision of the newest change made by this client: its own gets must show it. */
  written = 0;
  /** Ends, and is replaced, when the journal turns out to have gone back. */
  back = new Scope();
  #rose = 0;
  #before = 0; // what seen was at #turned
  #turned = 0;
  #settled = 0; // has been known for SETTLED_MS at least

  /** Notes a revision that was seen, and reports whether it is doubtfully low. */
  note(epoch: string, revision: number, now = performance.now()): boolean {
    if (epoch !== this.epoch) {
      this.epoch = epoch;
      this.seen = revision;
      this.written = this.#before = this.#settled = 0;
      this.#turned = this.#rose = now;
      return false;
    }
    if (now - this.#rose > SETTLED_MS) {
      this.#before = this.#settled = this.seen;
      this.#turned = now;
    } else if (now - this.#turned > SETTLED_MS) {
      this.#settled = this.#before;
      this.#before = this.seen;
      this.#turned = now;
    }
    if (revision > this.seen) {
      this.seen = revision;
      this.#rose = now;
    }
    return revision < this.#settled;
  }

  /** Notes a change made by this client. */
  wrote(epoch: string, revision: number): void {
    if (epoch === this.epoch) this.written = Math.max(this.written, revision);
  }

  /** Drops what was seen up to a revision. It reports false if that was done before. */
  forget(epoch: string, revision: number): boolean {
    if (this.epoch !== epoch || this.seen < revision) return false;
    this.seen = this.written = this.#before = this.#settled = 0;
    const { back } = this;
    this.back = new Scope();
    back.end(undefined);
    return true;
  }
}
