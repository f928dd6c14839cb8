import assert from "node:assert/strict";
import { test } from "node:test";
import { Known, Merge } from "../../src/merge.js";
import { decode, readEvent } from "../../src/protocol/decode.js";
import type { Event, GetReply, Status } from "../../src/protocol/messages.js";
import { conformanceList } from "./list.js";

interface Case {
  name: string;
  steps: Step[];
  ends: Record<string, number | null>;
}

interface Step {
  watch?: string[];
  unwatch?: string[];
  begin?: boolean;
  event?: { user: string; subject?: string; epoch?: string; revision: number; previousRevision?: number; body?: string };
  snapshot?: Snapshot;
  wentBack?: boolean;
  tells?: string[];
  fails?: string[];
  blind?: boolean;
}

interface Snapshot {
  epoch?: string;
  revision: number;
  users: Record<string, number | { revision: number; text: string }>;
  failed?: string[];
  begun?: boolean;
}

class User extends Known {
  constructor(readonly id: string) {
    super();
  }
}

const status = (userID: string, revision: number, text = String(revision)): Status => ({
  userID,
  statusType: 1,
  customStatus: text,
  revision,
});

/** Merges, and notes what comes of it. */
class Merger {
  told: string[] = [];
  blind = false;
  begun: string | undefined;
  readonly merge = new Merge<User>({
    tell: (user) => this.told.push(user.id),
    first: () => {},
    epochChanged: () => (this.blind = true),
    rewound: () => {},
  });

  step(step: Step): void {
    this.told = [];
    this.blind = false;
    const failed = this.#do(step);
    const { tells = [], fails = [], blind = false } = step;
    assert.deepEqual(
      { tells: this.told.sort(), fails: failed, blind: this.blind },
      { tells, fails, blind },
      JSON.stringify(step),
    );
  }

  #do(step: Step): string[] {
    if (step.watch) for (const id of step.watch) this.merge.users.set(id, new User(id));
    else if (step.unwatch) for (const id of step.unwatch) this.merge.users.delete(id);
    else if (step.begin) this.begun = this.merge.epoch;
    else if (step.event) this.#event(step.event);
    else if (step.snapshot) return this.#snapshot(step.snapshot);
    else if (step.wentBack) this.merge.wentBack(this.merge.epoch);
    else assert.fail("the step does nothing");
    return [];
  }

  #event({ user, subject, epoch = "e1", revision, previousRevision = 0, body }: NonNullable<Step["event"]>): void {
    const event: Event = { ...status(user, revision), epoch, previousRevision, cause: "set" };
    try {
      this.merge.event(subject ?? user, decode(Buffer.from(body ?? JSON.stringify(event)), readEvent));
    } catch {
      this.blind = true;
    }
  }

  #snapshot({ epoch = "e1", revision, users, failed = [], begun }: Snapshot): string[] {
    const page: GetReply = {
      successUserList: Object.entries(users).map(([id, known]) =>
        typeof known === "number" ? status(id, known) : status(id, known.revision, known.text),
      ),
      failureUserList: failed.map((userID) => ({ userID, code: 500, error: "internal", message: "" })),
      epoch,
      revision,
      stale: false,
    };
    return this.merge.snapshot([page], begun ? this.begun : undefined);
  }
}

for (const { name, steps, ends } of conformanceList<Case[]>("merge.json")) {
  test(`merging: ${name}`, () => {
    const merger = new Merger();
    for (const step of steps) merger.step(step);
    for (const [id, revision] of Object.entries(ends)) {
      assert.equal(merger.merge.users.get(id)?.status?.revision ?? null, revision, id);
    }
  });
}
