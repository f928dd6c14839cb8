import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { openGateway, type Gateway } from "../../src/gateway/index.js";
import { FakeBroker, type Answer } from "../core/fake.js";
import { errorOf } from "../core/kit.js";
import { eventually } from "../kit/process.js";

interface Apply {
  process: string;
  seq: number;
  ops: { op: string; userID: string; customStatus?: string }[];
  answer: (answer: Answer) => void;
}

/** A service whose answers to applies the test gives. */
class Fake {
  readonly broker = new FakeBroker();
  readonly opens: { process: string }[] = [];
  readonly applies: Apply[] = [];
  closed: string[] = [];
  /** How many applies may be under way. */
  window: number | undefined = 4;
  /** The number of the last apply, as an open tells it. */
  seq = 0;

  constructor() {
    this.broker.answer = (subject, body) => {
      const of = { ttlSeconds: 30, graceSeconds: 5, revision: 9, epoch: "e1" };
      const { process } = body as unknown as Apply;
      switch (subject.split(".").at(-1)) {
        case "open":
          this.opens.push({ process });
          return { ...of, seq: this.seq, window: this.window };
        case "apply":
          return new Promise((answer) => this.applies.push({ ...(body as unknown as Apply), answer }));
        case "close":
          this.closed.push(process);
      }
      return { ...of, seq: 0 };
    };
  }

  async gateway(t: TestContext, timeout = 10_000): Promise<Gateway> {
    const presence = this.broker.presence(t, { timeout, patience: 20_000 });
    const gateway = await openGateway(presence, "gw1");
    t.after(() => gateway.close({ patience: 10 }).catch(() => {}));
    return gateway;
  }

  /** Waits for so many applies, and returns them in short: "1 set:u" and so on. */
  async sent(n: number): Promise<string[]> {
    await eventually(`${n} applies`, () => this.applies.length >= n);
    await new Promise((resolve) => setTimeout(resolve, 20)); // for one too many
    assert.equal(this.applies.length, n);
    return this.applies.map(({ seq, ops }) => [seq, ...ops.map((o) => `${o.op}:${o.userID}`)].join(" "));
  }

  /** Answers an apply: all is done. */
  done(i: number): void {
    const { ops, answer } = this.applies[i]!;
    answer({ applied: ops.length, failures: [], revision: 10 + i, epoch: "e1" });
  }

  refuse(i: number, error: string): void {
    const codes: Record<string, number> = { out_of_order: 409, lease_not_found: 404, internal: 500, overloaded: 503 };
    this.applies[i]!.answer({ error, code: codes[error]!, message: "as the test says" } as Answer);
  }
}

/** What became of calls, in the order in which they settled. */
function collect() {
  const settled: string[] = [];
  const call = (name: string, promise: Promise<void>) => {
    void promise.then(
      () => settled.push(name),
      (error: { code: string }) => settled.push(`${name} ${error.code}`),
    );
  };
  return { settled, call };
}

/** Makes so many changes, each in a request of its own. */
async function start(fake: Fake, gateway: Gateway, n: number) {
  const { settled, call } = collect();
  for (let i = 1; i <= n; i++) {
    call(`u${i}`, gateway.setStatus(`u${i}`, "x"));
    await fake.sent(i);
  }
  return { settled, call };
}

const all = (settled: string[], n: number) => eventually(`${n} calls to settle`, () => settled.length >= n);

test("as many applies are under way as the service allows, and are answered in order", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t);
  const { settled, call } = await start(fake, gateway, 4);
  call("u5", gateway.setStatus("u5", "x"));
  call("u6", gateway.setStatus("u6", "x"));
  assert.deepEqual(await fake.sent(4), ["1 set:u1", "2 set:u2", "3 set:u3", "4 set:u4"]);
  fake.done(1);
  fake.done(2);
  await fake.sent(4);
  assert.deepEqual(settled, []);
  fake.done(0);
  assert.equal((await fake.sent(5)).at(-1), "5 set:u5 set:u6");
  assert.deepEqual(settled, ["u1", "u2", "u3"]);
  fake.done(3);
  fake.done(4);
  await all(settled, 6);
  assert.deepEqual(settled, ["u1", "u2", "u3", "u4", "u5", "u6"]);
});

test("one under way where the service does not say how many", async (t) => {
  const fake = new Fake();
  fake.window = undefined;
  const gateway = await fake.gateway(t);
  const { settled, call } = await start(fake, gateway, 1);
  for (const user of ["u2", "u3"]) call(user, gateway.setStatus(user, "x"));
  await fake.sent(1);
  fake.done(0);
  assert.deepEqual(await fake.sent(2), ["1 set:u1", "2 set:u2 set:u3"]);
  fake.done(1);
  await all(settled, 3);
});

test("what has overtaken is sent again, the same, once the one before it is answered", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t);
  const { settled } = await start(fake, gateway, 3);
  fake.refuse(2, "out_of_order");
  fake.refuse(1, "out_of_order");
  await fake.sent(3);
  fake.done(0);
  assert.deepEqual((await fake.sent(5)).slice(3), ["2 set:u2", "3 set:u3"]);
  assert.deepEqual({ ...fake.applies[3], answer: 0 }, { ...fake.applies[1], answer: 0 });
  fake.done(3);
  fake.done(4);
  await all(settled, 3);
  assert.deepEqual(settled, ["u1", "u2", "u3"]);
});

test("no answer to the first: it goes again alone, and the others after it", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t, 300);
  const { settled } = await start(fake, gateway, 3);
  fake.refuse(1, "out_of_order");
  fake.refuse(2, "overloaded");
  assert.equal((await fake.sent(4)).at(-1), "1 set:u1");
  fake.done(3);
  assert.deepEqual((await fake.sent(6)).slice(4), ["2 set:u2", "3 set:u3"]);
  fake.done(4);
  fake.done(5);
  await all(settled, 3);
  assert.deepEqual(settled, ["u1", "u2", "u3"]);
  assert.equal(new Set(fake.applies.map((a) => a.process)).size, 1);
});

test("a lease that is lost with several under way: what may be done is not repeated", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t, 300);
  const { settled, call } = collect();
  call("login", gateway.login("alice", "s1", { device: "phone" }));
  await fake.sent(1);
  fake.done(0);
  await all(settled, 1);
  call("u1", gateway.setStatus("u1", "x"));
  await fake.sent(2);
  call("u2", gateway.setStatus("u2", "x"));
  await fake.sent(3);
  call("new", gateway.login("bob", "s1"));
  await fake.sent(4);
  fake.refuse(2, "lease_not_found"); // and of the first nothing is heard
  fake.refuse(3, "lease_not_found");
  await all(settled, 2);
  assert.deepEqual(settled, ["login", "u1 outcome_unknown"]);
  assert.deepEqual((await fake.sent(6)).slice(4), ["1 login:alice", "2 set:u2 login:bob"]);
  assert.notEqual(fake.applies[4]!.process, fake.applies[0]!.process);
  assert.equal(fake.opens.at(-1)?.process, fake.applies[4]!.process);
  fake.done(4);
  fake.done(5);
  await all(settled, 4);
  assert.deepEqual(settled, ["login", "u1 outcome_unknown", "u2", "new"]);
  assert.equal(gateway.sessions, 2);
});

test("a defect: the callers are told, and the lease is given up and closed", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t);
  const { settled, call } = collect();
  call("login", gateway.login("alice", "s1"));
  await fake.sent(1);
  fake.done(0);
  const failed = errorOf(gateway.setStatus("u1", "x"));
  await fake.sent(2);
  fake.refuse(1, "internal");
  assert.equal((await failed).code, "internal");
  assert.equal((await fake.sent(3)).at(-1), "1 login:alice");
  assert.deepEqual(fake.closed, []);
  fake.done(2);
  await eventually("the earlier lease to be closed", () => fake.closed[0] === fake.applies[0]!.process);
  assert.equal(gateway.sessions, 1);
  assert.equal(settled.length, 1);
});

test("an open that tells of less than was answered: the lease was another one", async (t) => {
  const fake = new Fake();
  const gateway = await fake.gateway(t);
  const { settled } = await start(fake, gateway, 1);
  fake.done(0);
  await all(settled, 1);
  fake.broker.connection.lose(); // the next open tells seq 0
  await eventually("another lease", () => new Set(fake.opens.map((o) => o.process)).size === 2);
});
