import type { Subscription } from "@nats-io/nats-core";
import { Known } from "./merge.js";
import type { Status } from "./protocol/messages.js";

/** Gets each status of a user as it is merged. */
export type Observer = (status: Status) => void;

/** One user who is watched, for as long as there is a reason to watch. */
export class Watched extends Known {
  readonly id: string;
  /** By `subscribe`, until it is unsubscribed. */
  subscribed = false;
  /** Calls of `subscribe` that are under way. */
  subscribing = 0;
  /** By `hold`, and as a contact. */
  holds = 0;
  /** By `watch` and `until`: callbacks do not hear of it. */
  quiet = 0;
  /** Callbacks have had the user's status. */
  told = false;
  observers: Set<Observer> | undefined = undefined;
  /** On the current connection. */
  sub: Subscription | undefined = undefined;

  constructor(id: string) {
    super();
    this.id = id;
  }

  /** Callbacks get the user's statuses. */
  get visible(): boolean {
    return this.subscribed || this.subscribing + this.holds > 0;
  }

  get wanted(): boolean {
    return this.visible || this.quiet > 0;
  }
}
