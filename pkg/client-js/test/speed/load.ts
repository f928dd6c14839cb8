import type { NatsConnection } from "@nats-io/nats-core";

/** Holds many users ONLINE by a gateway's lease, and changes them, by plain requests. */
export class Load {
  readonly #nc: NatsConnection;
  readonly #ids: readonly string[];
  #seq = 0;
  /** Of all batches: a text that holds already would be no change. */
  #batch = 0;

  private constructor(nc: NatsConnection, ids: readonly string[]) {
    this.#nc = nc;
    this.#ids = ids;
  }

  /** Logs everybody in, with a lease that outlasts the test. */
  static async start(nc: NatsConnection, ids: readonly string[]): Promise<Load> {
    const load = new Load(nc, ids);
    await load.#request("open", { ttlSeconds: 3600 });
    const ops = ids.map((userID) => ({ op: "login", userID, sessionID: "s1", platform: "web" }));
    for (let i = 0; i < ops.length; i += 500) await load.#apply(ops.slice(i, i + 500));
    return load;
  }

  /** Sets so many texts a second for so long, in batches of a tenth of a second. */
  async run(perSecond: number, seconds: number): Promise<void> {
    const batch = perSecond / 10;
    const since = performance.now();
    for (let n = 0; n < seconds * 10; n++) {
      const ops = Array.from({ length: batch }, (_, i) => ({
        op: "set",
        userID: this.#ids[(n * batch + i) % this.#ids.length],
        customStatus: `text ${this.#batch}`,
      }));
      this.#batch++;
      await this.#apply(ops);
      const next = since + (n + 1) * 100 - performance.now();
      if (next > 0) await new Promise((resolve) => setTimeout(resolve, next));
    }
  }

  async #apply(ops: unknown[]): Promise<void> {
    const reply = await this.#request("apply", { seq: ++this.#seq, ops });
    if (reply["applied"] !== ops.length) throw new Error(`apply: ${JSON.stringify(reply).slice(0, 300)}`);
  }

  async #request(op: string, body: object): Promise<Record<string, unknown>> {
    const text = JSON.stringify({ process: "load", ...body });
    const reply = await this.#nc.request(`presence.v1.gateway.load.${op}`, text, { timeout: 20_000 });
    return reply.json();
  }
}
