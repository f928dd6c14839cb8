import { isPresenceError, PresenceError } from "../protocol/errors.js";
import { MAX_OPS_PER_APPLY } from "../protocol/limits.js";
import type { ApplyReply, ApplyRequest, Op } from "../protocol/messages.js";
import type { Change } from "./change.js";

/** The most bytes of a request: less than the 512 KiB of the contract. */
const MOST_BYTES = 480 * 1024;
/** More than the largest op takes. */
const OP_BYTES = 14 * 1024;
/** The most bytes that the failure of one op takes in a reply (PROTOCOL 4.7). */
const FAILURE_BYTES = 376;

/** One apply request, until it is answered and everything before it is. */
export class Pack {
  readonly request: ApplyRequest;
  /** One for each of the request's ops; those that log held sessions in again have no caller. */
  readonly changes: Change[] = [];
  /** It logs held sessions in again. */
  readonly again: boolean;
  /** The attempt under way: whether everything before it was answered when it was sent. */
  attempt: { first: boolean } | undefined;
  /** It is not sent before the one ahead of it is answered. */
  held = false;
  /** An attempt got no answer, so it may be done. */
  unsure = false;
  sentAt = 0;
  reply: ApplyReply | undefined;
  /** Why it is not sent any more: a defect, on either side. */
  refusal: PresenceError | undefined;
  #bytes = 0;

  constructor(process: string, seq: number, again: boolean) {
    this.request = { process, seq, ops: [] };
    this.again = again;
  }

  /** Reports whether another op fits, for a broker that takes so many bytes. */
  hasRoom(maxPayload: number): boolean {
    const most = Math.min(MOST_BYTES, maxPayload - OP_BYTES);
    const ops = Math.min(MAX_OPS_PER_APPLY, Math.floor((maxPayload - 1024) / FAILURE_BYTES));
    return this.changes.length === 0 || (this.changes.length < ops && this.#bytes < most);
  }

  add(change: Change): void {
    const { op } = change;
    change.taken = true;
    this.changes.push(change);
    this.request.ops.push(op);
    this.#bytes += bytesOf(op);
  }

  /** It may be done although it is not answered. */
  get mayBeDone(): boolean {
    return !this.reply && (this.unsure || this.attempt !== undefined);
  }

  /** Answers the callers with an error. */
  refuse(error: PresenceError): void {
    if (this.mayBeDone && error.code !== "outcome_unknown") error = unknownOutcome(error.message, this.sentAt, error);
    for (const change of this.changes) change.finish(error);
  }

  /** The errors in the answer, by the places of the ops. */
  failures(): Map<number, PresenceError> {
    return new Map(
      this.reply?.failures.map((f) => [f.index, new PresenceError(f.error, f.message, { status: f.code })]),
    );
  }
}

export function unknownOutcome(message: string, sentAt: number, cause?: PresenceError): PresenceError {
  return new PresenceError("outcome_unknown", `the change may be done: ${message}`, { sentAt, cause });
}

/** Reports whether it may help to ask again. */
export function isTransient(error: PresenceError): boolean {
  return (
    hadNoAnswer(error) ||
    isPresenceError(error, "unavailable", "overloaded", "rate_limited", "not_connected")
  );
}

/** Reports whether a request with a transient error may have been done. */
export const hadNoAnswer = (error: PresenceError): boolean => isPresenceError(error, "timeout", "outcome_unknown");

/** An upper bound of an op in JSON: a unit of UTF-16 takes three bytes at most, escapes included. */
function bytesOf(op: Op): number {
  const texts = [op.userID, op.sessionID, op.device, op.platform, op.customStatus];
  return 320 + 3 * texts.reduce((sum, text) => sum + (text?.length ?? 0), 0);
}
