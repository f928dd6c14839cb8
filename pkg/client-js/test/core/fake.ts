import type { ConnectionOptions, Msg, NatsConnection, Status, SubscriptionOptions } from "@nats-io/nats-core";
import { Presence, type PresenceOptions } from "../../src/index.js";
import type { Owner } from "../kit/process.js";

/**
 * What a broker answers: a body, an error of the service, a body that is given as it is (`raw`),
 * or nothing at all.
 */
export type Answer = object | { error: string; code: number } | undefined;

/** An error as nats-core has it: with its name. */
export function natsError(name: string, more: object = {}): Error {
  return Object.assign(new Error(name), { name, ...more });
}

/**
 * A broker and service in the test's own process, for what the real ones do not do when they are
 * asked. It has as much of nats-core's connections as the client uses.
 */
export class FakeBroker {
  readonly connections: FakeConnection[] = [];
  /** All requests: subjects below the prefix, with their bodies. */
  readonly requests: { subject: string; body: Record<string, unknown> }[] = [];
  /** What connect was called with. */
  readonly options: ConnectionOptions[] = [];
  /** The ID of the server that is reached; by default each connection reaches another. */
  serverID: string | undefined;
  /** Why it takes no connections. */
  refuses: Error | undefined;
  /** Answers a request. It may throw what nats-core rejects with. */
  answer: (subject: string, body: Record<string, unknown>) => Answer | Promise<Answer> = () => undefined;

  readonly connect = (options: ConnectionOptions): Promise<NatsConnection> => {
    this.options.push(options);
    if (this.refuses) return Promise.reject(this.refuses);
    const connection = new FakeConnection(this, this.connections.length + 1);
    this.connections.push(connection);
    return Promise.resolve(connection as unknown as NatsConnection);
  };

  /** A Presence of this broker, which is closed when the owner ends. */
  presence(owner: Owner, options: Partial<PresenceOptions> = {}): Presence {
    const presence = new Presence({ connect: this.connect, timeout: 200, patience: 2_000, ...options });
    owner.after(() => presence.close());
    return presence;
  }

  /** The current connection. */
  get connection(): FakeConnection {
    return this.connections.at(-1)!;
  }

  /** How often a request was made, by the end of its subject. */
  count(end: string): number {
    return this.requests.filter(({ subject }) => subject.endsWith(end)).length;
  }
}

const encoder = new TextEncoder();

export class FakeConnection {
  readonly info: object;
  readonly subscriptions = new Map<string, SubscriptionOptions>();
  /** PINGs are answered. */
  answersPings = true;
  isOpen = true;
  readonly #broker: FakeBroker;
  readonly #ended: Promise<void>;
  #end!: () => void;
  readonly #statuses: Status[] = [];
  #wake: () => void = () => {};

  constructor(broker: FakeBroker, number: number) {
    this.#broker = broker;
    this.info = { server_id: broker.serverID ?? `N${number}`, client_id: number };
    this.#ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** Breaks the connection. */
  lose(): void {
    this.isOpen = false;
    this.tell({ type: "disconnect", server: "" });
    this.#end();
  }

  /** Tells what nats-core tells of a connection. */
  tell(status: Status): void {
    this.#statuses.push(status);
    this.#wake();
  }

  /** Publishes an event. */
  publish(subject: string, body: object): void {
    void this.subscriptions.get(subject)?.callback?.(null, { subject, data: encoder.encode(JSON.stringify(body)) } as Msg);
  }

  /** Ends a subscription, as the broker does that does not allow it any more. */
  deny(subject: string): void {
    const { callback } = this.subscriptions.get(subject) ?? {};
    this.subscriptions.delete(subject);
    void callback?.(natsError("PermissionViolationError", { operation: "subscription", subject }), {} as Msg);
  }

  async request(subject: string, data: Uint8Array, { timeout }: { timeout: number }): Promise<Msg> {
    const body = JSON.parse(new TextDecoder().decode(data)) as Record<string, unknown>;
    this.#broker.requests.push({ subject, body });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(natsError("TimeoutError")), timeout);
    });
    try {
      const answered = Promise.resolve(this.#broker.answer(subject, body)).then((a) => a ?? late);
      const answer = await Promise.race([answered, late]);
      const { code, raw } = answer as { code?: number; raw?: string };
      return {
        data: encoder.encode(raw ?? JSON.stringify(answer)),
        headers: code ? { get: (name: string) => (name.endsWith("Code") ? String(code) : "said") } : undefined,
      } as unknown as Msg;
    } finally {
      clearTimeout(timer);
    }
  }

  subscribe(subject: string, options: SubscriptionOptions): object {
    this.subscriptions.set(subject, options);
    return { unsubscribe: () => this.subscriptions.delete(subject) };
  }

  flush(): Promise<void> {
    return this.answersPings ? Promise.resolve() : new Promise(() => {});
  }

  stats(): object {
    return { inMsgs: 0, inBytes: 0 };
  }

  closed(): Promise<void> {
    return this.#ended;
  }

  close(): Promise<void> {
    this.isOpen = false;
    this.#end();
    return new Promise(() => {}); // as on a dead network
  }

  async *status(): AsyncIterableIterator<Status> {
    for (;;) {
      while (this.#statuses.length > 0) yield this.#statuses.shift()!;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
