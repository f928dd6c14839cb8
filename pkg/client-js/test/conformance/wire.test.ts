import assert from "node:assert/strict";
import { test } from "node:test";
import { readApplyReply, readLeaseReply } from "../../src/gateway/replies.js";
import * as check from "../../src/protocol/check.js";
import * as read from "../../src/protocol/decode.js";
import { PresenceError } from "../../src/protocol/errors.js";
import type { GatewayOp, UserOp } from "../../src/protocol/subjects.js";
import { Subjects } from "../../src/protocol/subjects.js";
import { decodeToken, encodeToken } from "../../src/protocol/token.js";
import { codeOf, conformanceList, golden } from "./list.js";

interface Tokens {
  valid: { userID: string; token: string }[];
  invalidUserIDs: string[];
  invalidTokens: string[];
  subjects: { prefix?: string; kind: string; userID: string; gateway: string; op: string; subject: string }[];
  invalidPrefixes: string[];
}

test("tokens, both ways", () => {
  const list = conformanceList<Tokens>("tokens.json");
  for (const { userID, token } of list.valid) {
    assert.equal(encodeToken(userID), token);
    assert.equal(decodeToken(token), userID);
  }
  for (const userID of list.invalidUserIDs) {
    assert.equal(codeOf(() => encodeToken(userID)), "invalid_user_id", JSON.stringify(userID).slice(0, 80));
  }
  for (const token of list.invalidTokens) {
    assert.equal(codeOf(() => decodeToken(token)), "invalid_user_id", token.slice(0, 80));
  }
});

test("subjects", () => {
  const list = conformanceList<Tokens>("tokens.json");
  for (const { prefix, kind, userID, gateway, op, subject } of list.subjects) {
    const s = new Subjects(prefix);
    const subjects: Record<string, () => string> = {
      user: () => s.user(userID, op as UserOp),
      gateway: () => s.gateway(gateway, op as GatewayOp),
      get: () => s.get,
      event: () => s.event(userID),
      self: () => s.self(userID),
    };
    assert.equal(subjects[kind]?.(), subject);
    if (kind === "event") assert.equal(s.eventUser(subject), userID);
    else assert.equal(s.eventUser(subject), undefined);
  }
  for (const prefix of list.invalidPrefixes) {
    assert.equal(codeOf(() => new Subjects(prefix)), "invalid_request", prefix);
  }
  for (const token of list.invalidTokens) {
    assert.equal(new Subjects().eventUser("presence.v1.status." + token), undefined);
  }
});

interface Messages {
  files: Record<string, string[]>;
  same: { name: string; message: string; body: string; means: unknown }[];
  unreadable: { name: string; message: string; body?: string; bodyHex?: string }[];
}

const readers: Record<string, read.Reader<unknown>> = {
  event: read.readEvent,
  "self-event": read.readSelfEvent,
  "login-reply": read.readLoginReply,
  "change-reply": read.readChangeReply,
  "get-reply": read.readGetReply,
  "own-status-reply": read.readOwnStatusReply,
  "contacts-reply": read.readContactsReply,
  "lease-reply": readLeaseReply,
  "apply-reply": readApplyReply,
};

function readAs(message: string, body: Uint8Array): unknown {
  const reader = readers[message];
  assert.ok(reader, `there is no message ${message}`);
  return read.decode(body, reader);
}

test("messages", () => {
  const list = conformanceList<Messages>("messages.json");
  for (const [message, files] of Object.entries(list.files)) {
    for (const file of files) {
      assert.deepEqual(readAs(message, golden(file)), JSON.parse(golden(file).toString()), file);
    }
  }
  for (const { name, message, body, means } of list.same) {
    assert.deepEqual(readAs(message, Buffer.from(body)), means, name);
  }
  for (const { name, message, body, bodyHex } of list.unreadable) {
    const bytes = bodyHex ? Buffer.from(bodyHex, "hex") : Buffer.from(body ?? "");
    assert.equal(codeOf(() => readAs(message, bytes)), "internal", name);
  }
});

interface ErrorCase {
  name: string;
  headers: Record<string, string>;
  body: string;
  error: string;
  code: number;
  message?: string;
  retryAfterMs?: number;
}

test("replies that are errors", () => {
  for (const c of conformanceList<ErrorCase[]>("errors.json")) {
    const reply = { data: Buffer.from(c.body), headers: { get: (name: string) => c.headers[name] ?? "" } };
    assert.throws(
      () => read.decodeReply(reply, read.readChangeReply),
      (error: unknown) => {
        assert.ok(error instanceof PresenceError, c.name);
        const { code, status, retryAfterMs, message } = error;
        const want = { code: c.error, status: c.code, retryAfterMs: c.retryAfterMs, message: c.message ?? message };
        assert.deepEqual({ code, status, retryAfterMs, message }, want, c.name);
        return true;
      },
      c.name,
    );
  }
});

interface RequestCase {
  request: "login" | "set" | "contacts" | "open" | "op";
  body: never;
  error?: string;
}

const checks = {
  login: check.checkLogin,
  set: check.checkSet,
  contacts: check.checkContacts,
  open: check.checkTerms,
  op: check.checkOp,
};

test("requests are refused before they are sent", () => {
  for (const { request, body, error } of conformanceList<RequestCase[]>("requests.json")) {
    assert.equal(codeOf(() => checks[request](body)), error, `${request} ${JSON.stringify(body).slice(0, 80)}`);
  }
  for (const [file, f] of Object.entries({ login: check.checkLogin, set: check.checkSet, contacts: check.checkContacts })) {
    f(JSON.parse(golden(`${file}-request`).toString()) as never);
  }
});

test("what no text, list or number is, is refused as such", () => {
  const anything = [undefined, null, 7, NaN, 7n, true, Symbol("x"), {}, [], () => "x", new Date(), Object.create(null)];
  for (const value of anything) {
    const said = String(typeof value);
    assert.equal(codeOf(() => check.checkUserID(value)), "invalid_user_id", said);
    assert.equal(codeOf(() => check.checkID(value)), "invalid_request", said);
    if (!Array.isArray(value)) assert.equal(codeOf(() => check.checkUserIDs(value)), "invalid_request", said);
    assert.equal(codeOf(() => check.checkUserIDs(["bob", value])), "invalid_request", said);
    if (value === undefined) continue;
    assert.equal(codeOf(() => check.checkSet({ customStatus: value as string })), "invalid_request", said);
    assert.equal(codeOf(() => check.checkSet({ availability: value as "busy" })), "invalid_request", said);
    assert.equal(codeOf(() => check.checkLogin({ device: value as string })), "invalid_request", said);
    assert.equal(codeOf(() => check.checkLogin({ platform: value as string })), "invalid_request", said);
    if (value !== 7) assert.equal(codeOf(() => check.checkLogin({ ttlSeconds: value as number })), "invalid_request", said);
    if (value !== true) assert.equal(codeOf(() => check.checkLogin({ idle: value as boolean })), "invalid_request", said);
  }
  assert.deepEqual(check.checkUserIDs(["bob", "", "bob", "a\n", "eve"]), {
    valid: ["bob", "eve"],
    failures: [
      { userID: "", code: 400, error: "invalid_user_id", message: "the user ID is empty" },
      { userID: "a\n", code: 400, error: "invalid_user_id", message: "the user ID contains a control character" },
    ],
  });
});
