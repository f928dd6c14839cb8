import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "@nats-io/transport-node";
import { readApplyReply } from "../../src/gateway/replies.js";
import { decodeReply } from "../../src/protocol/decode.js";
import { isPresenceError } from "../../src/protocol/errors.js";
import { Subjects, type UserOp } from "../../src/protocol/subjects.js";
import { startPresenced } from "../kit/presenced.js";
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
