import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import type { App, Shown } from "./app.js";
import { Face, file } from "../face.js";
import type { OpenPage } from "../face.js";
import { eventually } from "../kit/process.js";

declare const app: App; // in the page

const face = await Face.start({ after }, { pages: true });
let page: OpenPage;
/** Whose statuses the page shows, and who sets them, from Node. */
let alice: string;
let bob: string;


beforeEach(async () => {
  [alice, bob] = [face.user("alice"), face.user("bob")];
  page = await face.openPage(file("./react/app.tsx"));
  await page.evaluate((server) => app.open(server), face.service.webSocket);
});
afterEach(() => page.close());

const show = (shown: Shown) => page.evaluate((s) => app.show(s), shown);
const commits = (id: string) => page.evaluate((user) => app.commits[user], id);

/** Waits until an element has a text, for 10 s. */
async function shows(id: string, text: string): Promise<void> {
  try {
    await page.waitForFunction(([i, t]) => document.getElementById(i!)?.textContent === t, [id, text] as const, {
      timeout: 10_000,
    });
  } catch {
    const got = await page.evaluate((i) => document.getElementById(i)?.textContent, id);
    assert.equal(got, text, `what ${id} shows after 10 s`);
  }
}

test("rows show the snapshot, then each change, and no other row is rendered for it", async () => {
  const session = await face.login(bob);
  await session.setStatus("before");
  await show({ rows: [alice, bob], summary: [bob, alice] });
  await shows(`row-${alice}`, "3 ");
  await shows(`row-${bob}`, "1 before");
  await shows("summary", `${bob}=1 ${alice}=3`);
  const [a, b] = [await commits(alice), await commits(bob)];
  await session.setStatus("after");
  await shows(`row-${bob}`, "1 after");
  assert.deepEqual([await commits(alice), await commits(bob)], [a, b! + 1]);
});

test("StrictMode, and rows that come back within the linger, cost no subscription", async () => {
  await show({ rows: [alice, bob] });
  await shows(`row-${bob}`, "3 ");
  assert.equal(page.sent(/^SUB .*status\./).length, 2); // each once, though effects ran twice
  // Requests come by themselves, too: the client fetches again a moment after it has connected.
  const sent = page.sent(/^(SUB|UNSUB) /).length;
  await show({ rows: [alice] });
  await show({ rows: [bob] });
  await show({ rows: [alice, bob, alice] });
  await shows(`row-${bob}`, "3 ");
  assert.equal(page.sent(/^(SUB|UNSUB) /).length, sent);
});

test("who is shown no more is unsubscribed after the linger", async () => {
  await show({ rows: [alice, bob] });
  await shows(`row-${bob}`, "3 ");
  await show({ rows: [alice] });
  await eventually("an UNSUB for bob", () => page.sent(/^UNSUB /).length === 1);
  await (await face.login(alice)).setStatus("still watched");
  await shows(`row-${alice}`, "1 still watched");
});

test("one's own status is shown as set on any device", async () => {
  await show({});
  await shows("mine", " 0 ");
  await page.evaluate((id) => app.login(id), alice);
  await show({});
  await shows("mine", `${alice} 1 `);
  await (await face.login(alice)).setStatus("from the phone");
  await shows("mine", `${alice} 1 from the phone`);
  await page.evaluate(() => app.session!.setAvailability("invisible"));
  await show({ rows: [alice] });
  await shows(`row-${alice}`, "2 "); // everybody's view beside the owner's
  await shows("mine", `${alice} 1 from the phone`);
});

test("an ID that is none reaches the error boundary, and the rest stays", async () => {
  await show({ rows: ["line\nbreak"], summary: [alice] });
  await shows("boundary", "invalid_user_id");
  await shows("summary", `${alice}=3`);
});

test("while the connection is away everybody is UNKNOWN, and then what holds", async () => {
  const session = await face.login(bob);
  await session.setStatus("here");
  await show({ rows: [alice, bob] });
  await shows(`row-${bob}`, "1 here");
  await shows("connection", "live");
  await page.evaluate(() => app.presence.suspend());
  await shows("connection", "blind");
  await shows(`row-${bob}`, "0 ");
  await session.setStatus("changed meanwhile");
  await page.evaluate(() => app.presence.resume());
  await shows(`row-${bob}`, "1 changed meanwhile");
  await shows(`row-${alice}`, "3 ");
  await shows("connection", "live");
});
