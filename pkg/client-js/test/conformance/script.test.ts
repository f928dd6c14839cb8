import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Presence, Session, Status } from "../../src/index.js";
import { FakeBroker, type Answer } from "../core/fake.js";
import { eventually } from "../kit/process.js";
import { conformanceList } from "./list.js";

interface Case {
  name: string;
  steps: Step[];
}

interface Step {
  serve?: State;
  answers?: Record<string, Scripted[]>;
  call?: Call;
  publish?: { user?: string; subject?: string; self?: string; epoch?: string; body?: string; revision?: number };
  asks?: { op: string } & Record<string, unknown>;
  tells?: Record<string, number>;
  told?: Record<string, number[]>;
  live?: boolean;
  ends?: string;
  wait?: number;
  requested?: Record<string, number>;
  error?: string;
  statuses?: Record<string, number>;
  requests?: Record<string, number>;
  takesMs?: number;
}

interface Call {
  op: string;
  user: string;
  users: string[];
  sessionID: string;
  text: string;
  add: string[];
}

/** The state that the service answers from. */
interface State {
  epoch?: string;
  revision: number;
  users: Record<string, number>;
  stale?: boolean;
}

type Scripted = "none" | { error?: string; retryAfterMs?: number; body?: string; serve?: State };

const codes: Record<string, number> = {
  overloaded: 503,
  unavailable: 503,
  outcome_unknown: 504,
  rate_limited: 429,
  internal: 500,
  session_replaced: 410,
  too_many_sessions: 409,
  revision_conflict: 409,
  request_too_large: 413,
};

function statusOf({ users }: State, userID: string): Status {
  const revision = users[userID] ?? 0;
  if (revision === 0) return { userID, statusType: 3, customStatus: "", revision };
  return { userID, statusType: 1, customStatus: String(revision), revision };
}

/** A service that does what a case says. */
class ScriptedService {
  readonly broker = new FakeBroker();
  state: State = { revision: 10, users: { u: 5 } };
  answers: Record<string, Scripted[]> = {};
  readonly requests: Record<string, unknown>[] = [];
  #sessions: { sessionID: string }[] = [];

  constructor() {
    this.broker.answer = (subject, body) => this.#answer(subject.split("."), body);
  }

  publish({ user = "", subject, self, epoch = "e1", body, revision = 0 }: NonNullable<Step["publish"]>): void {
    const on = self ? `presence.v1.self.${self}` : `presence.v1.status.${subject ?? user}`;
    const status = statusOf({ revision, users: { [user]: revision } }, user);
    const event = { ...status, epoch, previousRevision: 0, cause: "set" };
    this.broker.connection.publish(on, body === undefined ? event : JSON.parse(body));
  }

  count(op: string, after = 0): number {
    return this.requests.slice(after).filter((request) => request.op === op).length;
  }

  asked(want: Record<string, unknown>, after: number): boolean {
    return this.requests.slice(after).some((r) => Object.entries(want).every(([name, value]) => r[name] === value));
  }

  #answer(subject: string[], body: Record<string, unknown>): Answer {
    const [, , , user = ""] = subject;
    let op = subject.at(-1)!;
    if (op === "contacts" && !body.add && !body.remove && !body.replace) op = "contacts-read";
    this.requests.push({ ...body, op });
    const answer = this.answers[op]?.shift() ?? {};
    if (answer === "none") return undefined;
    const { error, retryAfterMs, body: raw, serve = this.state } = answer;
    if (error) return { error, code: codes[error] ?? 499, message: "as the script says", retryAfterMs };
    if (raw !== undefined) return { raw };
    return this.#reply(op, user, body, serve);
  }

  #reply(op: string, user: string, body: Record<string, unknown>, state: State): object {
    const { epoch = "e1", revision, stale = false } = state;
    const status = statusOf(state, user);
    const sessionID = body.sessionID as string;
    const of = { ttlSeconds: 120, graceSeconds: 5 };
    switch (op) {
      case "get": {
        const successUserList = (body.userIDList as string[]).map((id) => statusOf(state, id));
        return { successUserList, failureUserList: [], revision, epoch, stale };
      }
      case "login": {
        const { connection } = body;
        const session = { sessionID, platform: "web", live: true, idle: false, ...of, bound: true, connection };
        this.#sessions = this.#sessions.filter((s) => s.sessionID !== sessionID).concat(session);
        return { sessionID, ...of, status, revision, epoch };
      }
      case "status":
        return { status, availability: { lasting: "available" }, sessions: this.#sessions, revision, epoch, stale };
      case "contacts":
      case "contacts-read":
        return { contacts: [], friendNotifications: false, version: 0 };
      default:
        return { status, revision, epoch };
    }
  }
}

/** A client of a scripted service, with what it has told. */
class ScriptedClient {
  readonly service = new ScriptedService();
  readonly #presence: Presence;
  readonly #sessions = new Map<string, Session>();
  readonly #told = new Map<string, number[]>();
  #states: boolean[] = [];
  #since = 0; // requests before the last event

  constructor(t: TestContext) {
    this.#presence = this.service.broker.presence(t, { timeout: 300, patience: 10_000 });
    this.#presence.on("state", ({ live }) => this.#states.push(live));
    this.#presence.on("status", (list) => {
      for (const { userID, revision } of list) this.#told.set(userID, [...(this.#told.get(userID) ?? []), revision]);
    });
  }

  async step(step: Step): Promise<void> {
    const { service } = this;
    if (step.serve) service.state = step.serve;
    else if (step.answers) service.answers = step.answers;
    else if (step.call) await this.#check(step, step.call);
    else if (step.publish) {
      this.#since = service.requests.length;
      service.publish(step.publish);
    } else if (step.asks) {
      const { asks } = step;
      await eventually(`asked ${JSON.stringify(asks)}`, () => service.asked(asks, this.#since));
    } else if (step.tells) {
      for (const [id, revision] of Object.entries(step.tells)) {
        await eventually(`told ${id} ${revision}`, () => this.#told.get(id)?.at(-1) === revision);
      }
    } else if (step.told) {
      for (const [id, revisions] of Object.entries(step.told)) {
        assert.deepEqual(this.#told.get(id) ?? [], revisions, id);
      }
    } else if (step.live !== undefined) {
      const { live } = step;
      await eventually(`live is ${live}`, () => this.#was(live) || (live && this.#presence.state.live));
    } else if (step.ends) {
      for (const session of this.#sessions.values()) assert.equal((await session.ended)?.code, step.ends);
    } else if (step.wait) {
      await new Promise((resolve) => setTimeout(resolve, step.wait));
    } else if (step.requested) {
      for (const [op, want] of Object.entries(step.requested)) assert.equal(service.count(op), want, op);
    } else {
      assert.fail("the step does nothing");
    }
  }

  /** Reports whether the client was told to be live or blind, and forgets the states before that. */
  #was(live: boolean): boolean {
    const i = this.#states.indexOf(live);
    this.#states = this.#states.slice(i + 1);
    return i >= 0;
  }

  /** Makes a call and compares its outcome. */
  async #check({ error, statuses, requests, takesMs = 0 }: Step, call: Call): Promise<void> {
    if (["set", "contacts"].includes(call.op) && !this.#sessions.has(call.user)) await this.#login(call.user, "own");
    const before = this.service.requests.length;
    const begun = performance.now();
    let got: Status[] | undefined;
    let code: string | undefined;
    try {
      got = await this.#call(call);
    } catch (failure) {
      code = (failure as { code: string }).code;
    }
    assert.equal(code, error === "no_answer" ? "timeout" : error);
    assert.ok(performance.now() - begun > takesMs - 5, "it came too early"); // timers may be 1 ms early
    for (const [op, want] of Object.entries(requests ?? {})) assert.equal(this.service.count(op, before), want, op);
    for (const [id, want] of Object.entries(statuses ?? {})) {
      assert.equal(got?.find(({ userID }) => userID === id)?.revision, want, id);
    }
  }

  async #login(user: string, sessionID: string): Promise<void> {
    this.#sessions.set(user, await this.#presence.login(user, { sessionID }));
  }

  async #call({ op, user, users, sessionID, text, add }: Call): Promise<Status[] | undefined> {
    switch (op) {
      case "get":
        return (await this.#presence.get(users)).statuses;
      case "login":
        await this.#login(user, sessionID);
        break;
      case "set":
        await this.#sessions.get(user)!.setStatus(text);
        break;
      case "contacts":
        await this.#sessions.get(user)!.contacts.add(add);
        break;
      case "subscribe":
        await this.#presence.subscribe(users);
        break;
      case "unsubscribe":
        await this.#presence.unsubscribe(users);
        break;
      default:
        assert.fail(`there is no call ${op}`);
    }
    return undefined;
  }
}

for (const { name, steps } of conformanceList<Case[]>("script.json")) {
  test(`script: ${name}`, { concurrency: true }, async (t) => {
    const client = new ScriptedClient(t);
    for (const [i, step] of steps.entries()) {
      await client.step(step).catch((error: Error) => {
        error.message = `at step ${i}, ${JSON.stringify(step)}: ${error.message}`;
        throw error;
      });
    }
  });
}
