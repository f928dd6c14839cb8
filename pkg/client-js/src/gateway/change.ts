import { PresenceError } from "../protocol/errors.js";
import type { Op } from "../protocol/messages.js";
import type { CallOptions } from "../types.js";

/** One change between its call and its answer. */
export class Change {
  readonly op: Op;
  /** It is part of a request: it may be done, whatever its caller does. */
  taken = false;
  /** Its caller gave it up before it was taken: it is not done. */
  givenUp = false;
  readonly #onGivenUp: () => void;
  #settle: ((error: unknown) => void) | undefined;
  #release: (() => void)[] = [];

  constructor(op: Op, onGivenUp: () => void = () => {}) {
    this.op = op;
    this.#onGivenUp = onGivenUp;
  }

  /**
   * Waits for the answer, until the caller gives up: by the signal, or after `patience` ms. Then a
   * login or a set that was not sent yet is not done, as if it had never been called. All others
   * are: a session that should end must not stay because its caller left.
   */
  answered({ signal }: CallOptions, patience: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#settle = (error) => (error === undefined ? resolve() : reject(error as PresenceError));
      if (signal) {
        const abort = () => this.#leave(() => signal.reason);
        signal.addEventListener("abort", abort, { once: true });
        this.#release.push(() => signal.removeEventListener("abort", abort));
      }
      if (patience < 2 ** 31) {
        const timer = setTimeout(() => this.#leave((done) => late(done, patience)), patience);
        this.#release.push(() => clearTimeout(timer));
      }
    });
  }

  /** Answers the caller, once. No error is undefined. */
  finish(error?: unknown): void {
    for (const release of this.#release) release();
    this.#release = [];
    this.#settle?.(error);
    this.#settle = undefined;
  }

  #leave(reason: (mayBeDone: boolean) => unknown): void {
    const { op } = this.op;
    this.givenUp = !this.taken && (op === "login" || op === "set");
    if (this.givenUp) this.#onGivenUp();
    this.finish(reason(!this.givenUp));
  }
}

function late(mayBeDone: boolean, patience: number): PresenceError {
  if (!mayBeDone) return new PresenceError("timeout", `not sent within ${patience} ms`);
  return new PresenceError("outcome_unknown", `no answer within ${patience} ms: the change may still be done`, {
    sentAt: Date.now(),
  });
}
