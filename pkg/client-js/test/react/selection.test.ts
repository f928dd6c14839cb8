import assert from "node:assert/strict";
import { test } from "node:test";
import { Selection } from "../../src/react/selection.js";
import { StatusStore } from "../../src/react/store.js";
import { FakeSource, status } from "./fake.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("the array stays the same until a status in it changes", async () => {
  const source = new FakeSource();
  const store = new StatusStore(source);
  const selection = new Selection(store, ["alice", "bob", "alice"]);
  const before = selection.read();
  assert.deepEqual(before.map((s) => [s.userID, s.statusType]), [["alice", 0], ["bob", 0], ["alice", 0]]);
  let calls = 0;
  selection.subscribe(() => calls++);
  store.listen(["carol"], () => {});
  await settled();
  assert.equal(selection.read(), before);
  source.tell(status("carol", 1, 4)); // somebody else's
  assert.equal(selection.read(), before);
  source.tell(status("alice", 1, 5));
  const after = selection.read();
  assert.deepEqual(after.map((s) => s.statusType), [1, 0, 1]);
  assert.equal(selection.read(), after);
  assert.equal(after[1], before[1]);
  assert.equal(calls, 1);
  assert.equal(selection.readOnServer(), before);
});

test("a status that others watch already is there at the first render", async () => {
  const source = new FakeSource();
  const store = new StatusStore(source);
  store.listen(["alice"], () => {});
  await settled();
  source.tell(status("alice", 1, 5));
  assert.equal(new Selection(store, ["alice"]).read()[0]?.statusType, 1);
});

test("without a store everybody is UNKNOWN, and nothing is to be ended", () => {
  const selection = new Selection(undefined, ["alice"]);
  selection.subscribe(() => assert.fail("called"))();
  assert.equal(selection.read()[0]?.statusType, 0);
  assert.equal(selection.read(), selection.readOnServer());
});

test("of 10,000 users one change costs each reader one pass, however many listen", async () => {
  const source = new FakeSource();
  const store = new StatusStore(source);
  const ids = Array.from({ length: 10_000 }, (_, i) => `user${i}`);
  const selection = new Selection(store, ids);
  let calls = 0;
  selection.subscribe(() => calls++);
  await settled();
  source.tell(...ids.map((id) => status(id, 1, 5)));
  assert.equal(calls, 1);
  assert.ok(selection.read().every((s) => s.statusType === 1));
});
