import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement, StrictMode } from "react";
import type { ReactElement } from "react";
import { renderToString } from "react-dom/server";
import type { Presence } from "../../src/index.js";
import {
  PresenceProvider,
  useConnection,
  useMyStatus,
  useStatus,
  useStatuses,
} from "../../src/react/index.js";
import { FakeSource, status } from "./fake.js";

function Everything(): ReactElement {
  const [alice, nobody, my] = [useStatus("alice"), useStatus(null), useMyStatus()];
  const list = useStatuses(["bob", "carol", "bob"]);
  const connection = useConnection();
  const types = [alice, nobody, my, ...list].map((s) => `${s.userID}=${s.statusType}`);
  return createElement("p", null, `${types.join(" ")} live=${connection.live}`);
}

const html = (presence: Presence | undefined, child: ReactElement) =>
  renderToString(createElement(StrictMode, null, createElement(PresenceProvider, { presence }, child)));

test("a server renders UNKNOWN, with and without a Presence, and watches nobody", () => {
  const source = new FakeSource();
  source.hold(["alice"]);
  source.tell(status("alice", 1, 5));
  source.calls.length = 0;
  const want = "<p>alice=0 =0 =0 bob=0 carol=0 bob=0 live=false</p>";
  assert.equal(html(undefined, createElement(Everything)), want);
  assert.equal(html(source as unknown as Presence, createElement(Everything)), want);
  assert.deepEqual(source.calls, []);
  assert.equal(source.listeners, 0);
});

test("an ID that is none is a typed error for the error boundary", () => {
  const bad: unknown[] = ["", "x".repeat(129), "\ud800", "a\nb", 1, {}, ["alice"]];
  for (const id of bad) {
    const Bad = () => createElement("p", null, useStatus(id as string).statusType);
    assert.throws(() => html(undefined, createElement(Bad)), { name: "PresenceError", code: "invalid_user_id" });
  }
  for (const ids of [undefined, null, "alice", 1, {}]) {
    const Bad = () => createElement("p", null, useStatuses(ids as string[]).length);
    assert.throws(() => html(undefined, createElement(Bad)), { name: "PresenceError", code: "invalid_request" });
  }
});

test("a hook outside of a provider says so", () => {
  const Lost = () => createElement("p", null, useStatus("alice").statusType);
  assert.throws(() => renderToString(createElement(Lost)), /PresenceProvider/);
});
