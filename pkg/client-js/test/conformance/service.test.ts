import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { connect } from "@nats-io/transport-node";
import { readApplyReply } from "../../src/gateway/replies.js";
import { decodeReply } from "../../src/protocol/decode.js";
import { isPresenceError } from "../../src/protocol/errors.js";
import { Subjects, type UserOp } from "../../src/protocol/subjects.js";
import type { Availability, Presence, Session, Status } from "../../src/index.js";
import { endOf, presenceOf } from "../core/kit.js";
import { startPresenced, type Presenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { conformanceList } from "./list.js";

interface RequestCase {
  request: string;
  body: object;
  error?: string;
}

test("the service refuses what is refused here, by the same errors", async (t) => {
  const service = await startPresenced(t);
  const nc = await connect({ servers: service.nats });
  t.after(() => nc.close());
  const subjects = new Subjects();
  const ask = async (subject: string, body: object): Promise<string | undefined> => {
    try {
      const msg = await nc.request(subject, JSON.stringify(body), { timeout: 30_000 });
      return decodeReply(msg, readApplyReply).failures[0]?.error;
    } catch (error) {
      return isPresenceError(error) ? error.code : String(error);
    }
  };
  for (const [i, { request, body, error }] of conformanceList<RequestCase[]>("requests.json").entries()) {
    const gateway = `gw${i}`;
    let got: string | undefined;
    if (request === "open") {
      got = await ask(subjects.gateway(gateway, "open"), body);
    } else if (request === "op") {
      await ask(subjects.gateway(gateway, "open"), { process: "p1" });
      got = await ask(subjects.gateway(gateway, "apply"), { process: "p1", seq: 1, ops: [body] });
    } else {
      got = await ask(subjects.user(`user${i}`, request as UserOp), body);
    }
    assert.equal(got, error, `${request} ${JSON.stringify(body).slice(0, 80)}`);
  }
});

interface Case {
  name: string;
  steps: Step[];
}

type Shown = Partial<Pick<Status, "statusType" | "customStatus" | "availability">>;

interface Step {
  client: string;
  restart?: boolean;
  call?: string;
  user: string;
  users: string[];
  sessionID?: string;
  device?: string;
  text: string;
  expiresInSeconds?: number;
  availability: Availability;
  error?: string;
  statuses?: Record<string, Shown>;
  failures?: number;
  sees?: Record<string, Shown>;
  own?: Record<string, Shown>;
  never?: Record<string, number[]>;
  live?: boolean;
  ends?: string;
}

function is({ statusType, customStatus, availability }: Shown, want: Shown): boolean {
  return statusType === want.statusType && customStatus === want.customStatus && availability === want.availability;
}

/** One of the clients of a case. */
class CaseClient {
  readonly #presence: Presence;
  readonly #sessions = new Map<string, Session>();
  readonly #told: Status[] = [];
  readonly #own = new Map<string, Status>();

  constructor(t: TestContext, service: Presenced) {
    this.#presence = presenceOf(t, service);
    this.#presence.on("status", (list) => this.#told.push(...list));
    this.#presence.on("own", ({ userID, status }) => this.#own.set(userID, status));
  }

  async step(step: Step): Promise<void> {
    const { call, sees, own, never, live, ends } = step;
    if (call) return this.#check(call, step);
    if (ends) {
      for (const session of this.#sessions.values()) assert.equal(await endOf(session), ends);
    } else if (live) {
      await eventually("the client to be live", () => this.#presence.state.live);
    } else if (sees ?? own) {
      for (const [id, want] of Object.entries(sees ?? own ?? {})) {
        const shown = () => (sees ? this.#presence.watched(id) : this.#own.get(id));
        await eventually(`${id} to be ${JSON.stringify(want)}`, () => is(shown() ?? {}, want));
      }
    } else if (never) {
      const told = this.#told.filter((s) => never[s.userID]?.includes(s.statusType));
      assert.deepEqual(told, []);
    } else {
      assert.fail("the step does nothing");
    }
  }

  /** Makes a call and compares its outcome. */
  async #check(call: string, step: Step): Promise<void> {
    let code: string | undefined;
    let result: { statuses?: Status[]; failures?: unknown[] } = {};
    try {
      result = (await this.#call(call, step)) ?? {};
    } catch (error) {
      code = (error as { code: string }).code;
    }
    assert.equal(code, step.error);
    assert.equal(result.failures?.length ?? 0, step.failures ?? 0);
    for (const [id, want] of Object.entries(step.statuses ?? {})) {
      const got = result.statuses?.find(({ userID }) => userID === id);
      assert.ok(got && is(got, want), `${id} is ${JSON.stringify(got)}`);
    }
  }

  async #call(call: string, step: Step): Promise<{ statuses?: Status[]; failures?: unknown[] } | undefined> {
    const { user, users, sessionID, device, text, expiresInSeconds: expiresIn, availability } = step;
    const session = this.#sessions.get(user);
    switch (call) {
      case "get":
        return this.#presence.get(users, { fresh: true });
      case "subscribe":
        return this.#presence.subscribe(users);
      case "login":
        this.#sessions.set(user, await this.#presence.login(user, { sessionID, device }));
        break;
      case "logout":
        await session?.logout();
        break;
      case "logout-final":
        await session?.logoutOther(sessionID ?? "");
        break;
      case "logout-all":
        await session?.logout({ all: true });
        break;
      case "set":
        await session?.setStatus(text, { expiresIn });
        break;
      case "availability":
        await session?.setAvailability(availability);
        break;
      default:
        assert.fail(`there is no call ${call}`);
    }
    return undefined;
  }
}

for (const { name, steps } of conformanceList<Case[]>("service.json")) {
  test(`service: ${name}`, async (t) => {
    const service = await startPresenced(t);
    const clients = new Map<string, CaseClient>();
    for (const [i, step] of steps.entries()) {
      if (step.restart) {
        await service.restart();
        continue;
      }
      const client = clients.get(step.client) ?? new CaseClient(t, service);
      clients.set(step.client, client);
      await client.step(step).catch((error: Error) => {
        error.message = `at step ${i}, ${JSON.stringify(step).slice(0, 200)}: ${error.message}`;
        throw error;
      });
    }
  });
}
