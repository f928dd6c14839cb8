import type { Core } from "../core.js";
import type { Connection } from "../link.js";
import { isPresenceError, PresenceError } from "../protocol/errors.js";
import type { ApplyReply, Op } from "../protocol/messages.js";
import { BUSY_MOST_MS, BUSY_MS } from "../requests.js";
import type { Scope } from "../scope.js";
import { backoff, Bell } from "../timing.js";
import { Change } from "./change.js";
import type { GatewayOptions, SessionsEnd } from "./gateway.js";
import { Lease } from "./lease.js";
import { hadNoAnswer, isTransient, Pack, unknownOutcome } from "./pack.js";
import { readApplyReply } from "./replies.js";
import { HeldSessions, keyOf } from "./sessions.js";

/** How often other callers may run before a request is packed. */
const GATHER_TURNS = 8;

/**
 * Makes a gateway's requests. Applies may be under way several at a time, as many as the service
 * allows; it does them in the order of their numbers (PROTOCOL 4.7). All else is awaited.
 *
 *     changes ─► queue ─► pack ─► flights ─► answers ─► callers
 *                  ▲                  │ the lease was lost
 *                  └── sessions, log in again ◄┘
 */
export class Run {
  readonly sessions = new HeldSessions();
  /** Why the lease could not be ended. */
  closeError: PresenceError | undefined;
  readonly #core: Core;
  readonly #gatewayID: string;
  readonly #options: GatewayOptions;
  readonly #life: Scope;
  readonly #bell = new Bell();
  /** Changes that wait to be sent, and how many of them were given up, about. */
  #queue: Change[] = [];
  #givenUp = 0;
  #lease: Lease;
  /** Requests that are not answered, or stand behind one that is not, in the order of their seq. */
  #flights: Pack[] = [];
  /** The number of the last request that was answered with all before it. */
  #seq = 0;
  /** Keys of held sessions that are to be logged in again. */
  #again: string[] = [];
  /** Why the lease is to be left, once everything under way has landed. */
  #left: PresenceError | undefined;
  /** An earlier lease that may still exist, and is to be closed. */
  #retired: Lease | undefined;
  /** What should be paused for. */
  #failure: PresenceError | undefined;
  #failures = 0; // in a row
  #closing: SessionsEnd | undefined;

  constructor(core: Core, gatewayID: string, options: GatewayOptions, life: Scope) {
    this.#core = core;
    this.#gatewayID = gatewayID;
    this.#options = options;
    this.#life = life;
    this.#lease = this.#newLease();
  }

  /** Makes one attempt to open the lease. */
  async open(connection: Connection): Promise<void> {
    const seq = await this.#lease.open(connection);
    // A lease that has done nothing may be another one than the first request was for.
    if (seq < this.#seq || (seq === 0 && this.#flights.some((p) => p.mayBeDone))) {
      this.#leave(new PresenceError("lease_not_found", "the lease was lost before it could be bound anew"), true);
    }
  }

  /** Queues a change; undefined if so many wait already. */
  push(op: Op, most: number): Change | undefined {
    if (this.#queue.length >= most && this.#givenUp > 0) {
      this.#queue = this.#queue.filter((change) => !change.givenUp);
      this.#givenUp = 0;
    }
    if (this.#queue.length >= most) return undefined;
    const change = new Change(op, () => this.#givenUp++);
    this.#queue.push(change);
    this.#bell.ring();
    return change;
  }

  /** Makes `loop` end when everything that waits is done. */
  stop(how: SessionsEnd): void {
    this.#closing = how;
    this.#bell.ring();
  }

  /** Makes requests until the gateway is closed. It throws why it could not go on. */
  async loop(): Promise<void> {
    for (;;) {
      try {
        if (await this.#step()) return;
      } catch (error) {
        this.#life.check();
        if (!(error instanceof PresenceError)) throw error;
        await this.#pause(Math.max(backoff(this.#failures++, BUSY_MS, BUSY_MOST_MS), error.retryAfterMs ?? 0));
      }
    }
  }

  /** Answers the callers that are left, when the gateway has ended. */
  end(error: PresenceError): void {
    for (const pack of this.#flights) pack.refuse(error);
    for (const change of this.#queue) change.finish(error);
    for (const lease of [this.#lease, this.#retired]) lease?.leave();
    this.#flights = [];
    this.#queue = [];
    for (const key of this.sessions.keys()) this.sessions.drop(this.sessions.login(key)!);
  }

  #newLease(): Lease {
    return new Lease(this.#core, this.#gatewayID, this.#options, this.#life, () => this.#bell.ring());
  }

  /** Waits. It is over at once if the connection is lost: the next one may be better. */
  async #pause(ms: number): Promise<void> {
    const { current } = this.#core.link;
    try {
      const over = this.#life.sleep(ms);
      await (current ? current.scope.wait(over) : over);
    } catch {
      this.#life.check();
      this.#failures = 0;
    }
  }

  /** Does the most urgent thing, or waits for something to do. It reports whether all is done. */
  async #step(): Promise<boolean> {
    const connection = await this.#core.link.wait(this.#life);
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
    if (this.#left) {
      if (!this.#flights.some((p) => p.attempt)) throw this.#startOver(this.#left);
      await this.#bell.wait(Infinity, this.#life);
    } else if (!this.#lease.bound) {
      await this.open(connection);
    } else if (performance.now() >= this.#lease.renewAt) {
      await this.#lease.renew().catch((error: PresenceError) => this.#leave(error, false));
    } else {
      const due = this.#due();
      if (!due) return this.#goOn(connection);
      this.#send(due);
    }
    return false;
  }

  /** Makes the next request or, if there is none to be made now, waits. */
  async #goOn(connection: Connection): Promise<boolean> {
    const room =
      this.#flights.length < this.#lease.window && this.#flights.every((p) => p.reply ?? p.attempt);
    if (this.#again.length > 0 && room) {
      this.#packAgain(connection);
    } else if (this.#again.length === 0 && this.#retired && !this.#flights.some((p) => p.again)) {
      await this.#closeRetired();
    } else if (this.#again.length === 0 && this.#queue.length > 0 && room) {
      await this.#gather();
      this.#pack(connection);
    } else if (this.#closing && this.#queue.length + this.#again.length + this.#flights.length === 0) {
      return this.#close(this.#closing);
    } else {
      await this.#bell.wait(this.#lease.renewAt - performance.now(), this.#life);
    }
    return false;
  }

  /** Lets callers run that are about to call, as long as more changes come. */
  async #gather(): Promise<void> {
    for (let turn = 0, last = -1; turn < GATHER_TURNS && this.#queue.length !== last; turn++) {
      last = this.#queue.length;
      for (let i = 0; i < 3; i++) await Promise.resolve(); // an async function is answered in up to three
    }
  }

  /** Makes the next request of waiting changes; none if their callers have given them up. */
  #pack(connection: Connection): void {
    const pack = this.#newPack(false);
    let n = 0;
    for (; n < this.#queue.length && pack.hasRoom(maxPayload(connection)); n++) {
      const change = this.#queue[n]!;
      if (!change.givenUp) pack.add(change);
    }
    this.#queue.splice(0, n);
    if (pack.changes.length > 0) this.#flights.push(pack);
  }

  /** Makes the next request of sessions that are to be logged in again. */
  #packAgain(connection: Connection): void {
    const pack = this.#newPack(true);
    let n = 0;
    for (; n < this.#again.length && pack.hasRoom(maxPayload(connection)); n++) {
      const op = this.sessions.login(this.#again[n]!);
      if (op) pack.add(new Change(op));
    }
    this.#again.splice(0, n);
    if (pack.changes.length > 0) this.#flights.push(pack);
  }

  #newPack(again: boolean): Pack {
    return new Pack(this.#lease.process, this.#seq + this.#flights.length + 1, again);
  }

  /** The request that is to be sent now. */
  #due(): Pack | undefined {
    const next = this.#flights.find((p) => !p.reply && !p.attempt);
    return next?.held ? undefined : next; // those behind it are out of order as long
  }

  /** Makes one attempt of a request. What comes of it is told to #landed. */
  #send(pack: Pack): void {
    pack.attempt = { first: pack === this.#flights[0] };
    pack.sentAt = Date.now();
    this.#lease.ask("apply", pack.request, readApplyReply).then(
      (reply) => this.#landed(pack, reply),
      (error: PresenceError) => this.#landed(pack, undefined, error),
    );
  }

  /** Notes what became of an attempt. */
  #landed(pack: Pack, reply: ApplyReply | undefined, error?: PresenceError): void {
    if (this.#life.ended) return; // end answers the callers
    const { changes, attempt } = pack;
    if (reply && reply.applied + reply.failures.length !== changes.length) {
      error = new PresenceError("internal", `${changes.length} changes were sent, others answered`);
    }
    pack.attempt = undefined;
    const first = pack === this.#flights[0];
    const overtook = error?.code === "out_of_order" && !attempt?.first;
    if (!error) {
      this.#failures = 0;
      pack.reply = reply;
      this.#core.wrote(reply!.epoch, reply!.revision);
      this.#settle();
    } else if (error.code === "lease_not_found") {
      this.#leave(error, false);
    } else if (overtook || isTransient(error)) {
      pack.unsure ||= !overtook && hadNoAnswer(error);
      // Whatever was wrong, the first one goes again alone, and the others after its answer.
      pack.held = !first;
      if (first && !overtook) this.#failure = error;
    } else {
      // A defect, on either side. It is no longer known which sessions the lease holds.
      pack.refusal = error;
      this.#leave(error, true);
    }
    this.#bell.ring();
  }

  /** Answers the callers of the requests that are answered, in order. */
  #settle(): void {
    while (this.#flights[0]?.reply) {
      const pack = this.#flights.shift()!;
      this.#seq = pack.request.seq;
      const failures = pack.failures();
      pack.changes.forEach((change, i) => change.finish(this.#judge(change.op, failures.get(i), pack.again)));
      for (const next of this.#flights) next.held = false;
    }
  }

  /** Remembers the result of an op, and returns the error for its caller. */
  #judge(op: Op, error: PresenceError | undefined, again: boolean): PresenceError | undefined {
    const ended = isPresenceError(error, "session_not_found", "session_replaced");
    if (ended && (op.op === "logout" || op.op === "lost")) error = undefined; // somebody was faster
    if (!error) this.sessions.note(op);
    else if (ended || again) this.sessions.drop(op);
    if (error && again) this.#tellEnded(op, error);
    return error;
  }

  #tellEnded({ userID, sessionID }: Op, error: PresenceError): void {
    const { onSessionEnded } = this.#options;
    // What it throws is an uncaught error of the program, and stops nothing here.
    if (onSessionEnded) queueMicrotask(() => onSessionEnded(userID, sessionID!, error));
  }

  /**
   * Gives the lease up. `retire` says that it may still exist. #step starts over when all requests
   * under way have landed: then it is known which were done.
   */
  #leave(error: PresenceError, retire: boolean): void {
    this.#left ??= error;
    if (retire) this.#retired = this.#lease;
  }

  /** Makes the next step open another lease and log everyone in again. */
  #startOver(why: PresenceError): PresenceError {
    this.#lease.leave();
    this.#lease = this.#newLease();
    this.#seq = 0;
    this.#left = undefined;
    this.#putBack();
    this.#forgetEnding();
    this.#again = this.sessions.keys();
    return why;
  }

  /**
   * Makes the changes of the requests without an answer wait again. A set that the lost lease may
   * have done is not repeated: others may have set something since.
   */
  #putBack(): void {
    const changes: Change[] = [];
    for (const pack of this.#flights) {
      if (pack.refusal) {
        pack.refuse(pack.refusal);
        continue;
      }
      const failures = pack.failures();
      pack.changes.forEach((change, i) => {
        const set = change.op.op === "set";
        if (pack.again) return; // all sessions are logged in again
        if (set && pack.reply) change.finish(failures.get(i));
        else if (set && pack.mayBeDone) change.finish(unknownOutcome("the gateway's lease was lost", pack.sentAt));
        // Done on the next lease, in the same order, even if it was done on this one.
        else changes.push(change);
      });
    }
    this.#flights = [];
    this.#queue = changes.concat(this.#queue);
  }

  /**
   * Drops the sessions that a waiting change is about to end, so that their users do not become
   * ONLINE once more for a moment. A session that is to be logged out was lost with the lease, and
   * must be logged in before it can be logged out: that goes before the logout.
   */
  #forgetEnding(): void {
    const last = new Map<string, Change>();
    for (const change of this.#queue) {
      const { op } = change;
      if (["login", "logout", "lost"].includes(op.op) && this.sessions.has(keyOf(op))) last.set(keyOf(op), change);
    }
    if (last.size === 0) return;
    this.#queue = this.#queue.flatMap((change) => {
      const { op } = change;
      if (last.get(keyOf(op)) !== change || op.op === "login") return [change];
      const login = this.sessions.login(keyOf(op));
      this.sessions.drop(op);
      return op.op === "logout" && login ? [new Change(login), change] : [change];
    });
  }

  /** Makes one attempt to end an earlier lease, whose sessions went over. Else it runs out. */
  async #closeRetired(): Promise<void> {
    await this.#retired?.close(false).catch(() => this.#life.check());
    this.#retired = undefined;
  }

  /** Makes one attempt to end the lease. It throws if another one may succeed. */
  async #close(how: SessionsEnd): Promise<true> {
    try {
      if (how !== "leave") await this.#lease.close(how === "logout");
    } catch (error) {
      if (this.#life.ended || isTransient(error as PresenceError)) throw error;
      this.closeError = error as PresenceError;
    }
    return true;
  }
}

const maxPayload = (connection: Connection): number => connection.nc.info?.max_payload ?? 1024 * 1024;
