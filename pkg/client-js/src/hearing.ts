import type { Subscription } from "@nats-io/nats-core";
import type { Core } from "./core.js";
import type { Connection } from "./link.js";
import { decode, readEvent } from "./protocol/decode.js";
import { PresenceError } from "./protocol/errors.js";
import type { Event, Status } from "./protocol/messages.js";
import { Scope } from "./scope.js";
import { turn } from "./timing.js";
import type { Watched } from "./watched.js";

/** How many subscriptions are made in one task. */
const BATCH = 200;
/** How many refused subscriptions are made anew at first, to find out if they are accepted now. */
const SAMPLE = 10;
/**
 * How long an event may take if a snapshot has shown its change already. When an instance was
 * killed, another announces its last changes after about 10 s.
 */
const UNHEARD_MS = 15_000;

/**
 * The subscriptions to the events of watched users. They belong to one connection: on the next
 * one all are made anew.
 *
 * The broker may refuse a subscription, or end one, and does not bring it back. Which ones bring
 * nothing is remembered, and they are made anew until the broker accepts them:
 *
 *     permission violation ─► that subscription is dead   ┐
 *     too many of them     ─► any of them may be dead     ├─► blind ─► repair, fetch, live
 *     a change that a snapshot showed, but no event told ─┘
 */
export class Hearing {
  readonly #core: Core;
  readonly #dead = new Map<Watched, PresenceError>();
  /** The connection has too many subscriptions: it is not known which were refused. */
  #crowded: PresenceError | undefined;
  /** Subscriptions that are to be ended. */
  readonly #ended: Subscription[] = [];
  #ending = false;
  /** Changes that a snapshot has shown while the client was live: the earliest first. */
  readonly #unheard = new Map<Watched, { revision: number; due: number }>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Subscribes to users, as far as that is not done. It ends early with the connection. */
  async hear(users: Iterable<Watched>, connection: Connection): Promise<void> {
    const { subjects } = this.#core;
    let n = 0;
    for (const user of users) {
      if (connection.scope.ended) return;
      if (user.sub || !user.wanted) continue;
      user.sub = connection.nc.subscribe(subjects.event(user.id), {
        callback: (error, msg) => {
          if (connection.scope.ended) return;
          if (error) this.#refuse(user, error);
          else this.#event(user, msg.data);
        },
      });
      if (++n % BATCH === 0) await turn();
    }
  }

  /** Takes note that the connection was lost: nothing is heard any more. */
  lost(): void {
    for (const user of this.#core.watching.merge.users.values()) user.sub = undefined;
    this.#dead.clear();
    this.#unheard.clear();
    this.#crowded = undefined;
  }

  /** Ends the subscription to a user, in a moment where very many are ended. */
  end(user: Watched): void {
    if (user.sub) this.#ended.push(user.sub);
    this.#forget(user);
    if (!this.#ending) void this.#end();
  }

  async #end(): Promise<void> {
    this.#ending = true;
    while (this.#ended.length > 0) {
      for (const sub of this.#ended.splice(0, BATCH)) sub.unsubscribe();
      await turn();
    }
    this.#ending = false;
  }

  #forget(user: Watched): void {
    user.sub = undefined;
    this.#dead.delete(user);
    this.#unheard.delete(user);
  }

  /** Why some subscription is dead; undefined if none is. */
  get error(): PresenceError | undefined {
    return this.#crowded ?? this.#dead.values().next().value;
  }

  /** Why one of these users cannot be heard. */
  errorOf(users: readonly Watched[]): PresenceError | undefined {
    return this.#crowded ?? this.#dead.get(users.find((user) => this.#dead.has(user))!);
  }

  /** The broker has refused a subscription because the connection has too many. */
  crowd(cause: Error): void {
    const { watching } = this.#core;
    if (watching.merge.users.size + watching.owners.size === 0) return;
    this.#crowded = denied("the broker allows no more subscriptions", cause);
    watching.blind("refused", this.#crowded);
    for (const owner of watching.owners.values()) owner.refuse();
  }

  /** Makes dead subscriptions anew, and those that are not made yet. It returns why some stay dead. */
  async repair(connection: Connection, limit: number): Promise<PresenceError | undefined> {
    const { users } = this.#core.watching.merge;
    for (let all = false; ; all = true) {
      const dead = this.#takeDead(all);
      if (dead.length === 0) break;
      await this.hear(dead, connection);
      const scope = new Scope(connection.scope).within(limit, () => {
        this.#core.link.doubt();
        return new PresenceError("timeout", "the broker does not answer");
      });
      try {
        await scope.wait(connection.nc.flush()); // by then the broker has said what it refuses
      } finally {
        scope.end(undefined);
      }
      await turn();
      if (this.error) return this.error;
    }
    await this.hear(users.values(), connection);
    return undefined;
  }

  /** Some of the dead subscriptions, or all. From here on they count as not made. */
  #takeDead(all: boolean): Watched[] {
    let dead = [...this.#dead.keys()];
    if (this.#crowded) dead = [...this.#core.watching.merge.users.values()];
    else if (!all) dead = dead.slice(0, SAMPLE);
    this.#crowded = undefined;
    for (const user of dead) {
      user.sub?.unsubscribe(); // first: there may be no room for both
      this.#forget(user);
    }
    return dead;
  }

  #refuse(user: Watched, cause: Error): void {
    const error = denied(`the broker does not let this user watch ${user.id}`, cause);
    user.sub = undefined;
    if (!user.wanted) return;
    this.#dead.set(user, error);
    // Otherwise the call of subscribe that is under way sees it.
    if (user.fetched || user.holds + user.quiet > 0) this.#core.watching.blind("refused", error);
  }

  #event(user: Watched, data: Uint8Array): void {
    const { journal, watching } = this.#core;
    let event: Event;
    try {
      event = decode(data, readEvent);
    } catch (error) {
      // Something has happened to the user, and only a snapshot can show what.
      watching.blind("dropped", error as PresenceError);
      return;
    }
    if (watching.merge.users.get(user.id) !== user || !watching.merge.event(user.id, event)) return;
    if (journal.note(event.epoch, event.revision)) watching.resync.doubtJournal();
    const unheard = this.#unheard.get(user);
    if (unheard && event.revision >= unheard.revision) this.#unheard.delete(user);
  }

  /** Remembers a change that a snapshot is about to show, and of which no event came. */
  shown(user: Watched, status: Status): void {
    if (!user.fetched || status.revision <= user.asOf || status.revision <= user.status!.revision) return;
    this.#unheard.delete(user);
    this.#unheard.set(user, { revision: status.revision, due: performance.now() + UNHEARD_MS });
  }

  /** When the next event is overdue. */
  get due(): number {
    return this.#unheard.values().next().value?.due ?? Infinity;
  }

  /** Marks subscriptions as dead whose event is overdue. */
  checkUnheard(): void {
    for (const [user, { due }] of this.#unheard) {
      if (due > performance.now()) return;
      this.#unheard.delete(user);
      const error = new PresenceError("unavailable", `an event of ${user.id} did not come`);
      this.#dead.set(user, error);
      this.#core.watching.blind("dropped", error);
    }
  }
}

const denied = (message: string, cause: Error) => new PresenceError("permission_denied", message, { cause });
