import type { Op } from "../protocol/messages.js";

/** What it takes to log a session in again. */
interface Held {
  device: string | undefined;
  platform: string | undefined;
  idle: boolean;
}

/** The key of a session: its user, a zero byte, which no ID contains, and its ID. */
export const keyOf = ({ userID, sessionID }: Op): string => `${userID}\0${sessionID}`;

/** The sessions that a gateway's lease is known to hold. */
export class HeldSessions {
  readonly #held = new Map<string, Held>();

  get size(): number {
    return this.#held.size;
  }

  keys(): string[] {
    return [...this.#held.keys()];
  }

  has(key: string): boolean {
    return this.#held.has(key);
  }

  /** Notes that an op was done. */
  note(op: Op): void {
    const key = keyOf(op);
    const held = this.#held.get(key);
    if (op.op === "login") {
      this.#held.set(key, { device: op.device, platform: op.platform, idle: op.idle ?? false });
    } else if (op.op === "logout" || op.op === "lost") {
      this.#held.delete(key);
    } else if (op.op === "idle" && held) {
      held.idle = op.idle ?? false;
    }
  }

  /** Forgets the session that an op is about. */
  drop(op: Op): void {
    this.#held.delete(keyOf(op));
  }

  /** The op that logs a session in again; undefined if it is not held any more. */
  login(key: string): Op | undefined {
    const held = this.#held.get(key);
    const [userID = "", sessionID] = key.split("\0");
    return held && { op: "login", userID, sessionID, ...held };
  }
}
