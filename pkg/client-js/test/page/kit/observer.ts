import { connect } from "@nats-io/transport-node";
import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import type { Event, OwnStatusReply } from "../../../src/protocol/messages.js";
import { eventually, type Owner } from "../../kit/process.js";

/** Watches a user from Node, over NATS itself, without the client under test. */
export async function observe(owner: Owner, options: ConnectionOptions, userID: string): Promise<Observer> {
  const nc = await connect({ ...options, maxReconnectAttempts: -1 });
  owner.after(() => nc.close());
  const observer = new Observer(nc, userID);
  await nc.flush();
  return observer;
}

export class Observer {
  /** The causes of the user's events, in order. */
  readonly causes: string[] = [];
  readonly #nc: NatsConnection;
  readonly #userID: string;

  constructor(nc: NatsConnection, userID: string) {
    this.#nc = nc;
    this.#userID = userID;
    const seen = new Set<number>(); // a restarted service repeats events
    nc.subscribe(`presence.v1.status.${userID}`, {
      callback: (_, msg) => {
        const { cause, revision } = msg.json<Event>();
        if (!seen.has(revision)) this.causes.push(cause);
        seen.add(revision);
      },
    });
  }

  /** Waits until the user's events had exactly these causes. It fails at once on another. */
  async saw(...causes: string[]): Promise<void> {
    await eventually(`events ${String(causes)} of ${this.#userID}`, () => {
      const right = this.causes.every((cause, i) => cause === causes[i]);
      if (!right) throw new Error(`events ${String(this.causes)}, want ${String(causes)}`);
      return this.causes.length === causes.length;
    });
  }

  /** What the service knows of the user. A service that starts again is waited for. */
  async own(): Promise<OwnStatusReply> {
    const subject = `presence.v1.user.${this.#userID}.status`;
    const ask = () => this.#nc.request(subject, "{}", { timeout: 1_000 });
    const answer = await eventually("an answer", () => ask().catch(() => undefined));
    return answer.json();
  }

  /** The user's live sessions. */
  async live(): Promise<OwnStatusReply["sessions"]> {
    return (await this.own()).sessions.filter(({ live }) => live);
  }
}
