// What a page does by time, with a clock that the tests set.
import assert from "node:assert/strict";
import { setImmediate as settle } from "node:timers/promises";
import { mock, test, type TestContext } from "node:test";
import { Idle } from "../../src/page/idle.js";
import { Liveness } from "../../src/page/liveness.js";
import { Pulse } from "../../src/page/pulse.js";

function setClock(t: TestContext): void {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000_000 });
  t.after(() => mock.timers.reset());
}

/** Lets time go by in steps of 100 ms, each with what follows from it. */
async function pass(ms: number): Promise<void> {
  for (let gone = 0; gone < ms; gone += 100) {
    mock.timers.tick(100);
    await settle();
    await settle();
  }
}

/** The page does not run for a time: its timers are late. */
async function standStill(ms: number): Promise<void> {
  mock.timers.setTime(Date.now() + ms);
  await settle();
  await settle();
}

test("a page that runs is steady at once", async (t) => {
  setClock(t);
  const pulse = new Pulse();
  t.after(() => pulse.stop());
  pulse.start();
  await pass(30_000);
  await pulse.steady();
});

test("a page that stood still is steady after it ran for 2 s", async (t) => {
  setClock(t);
  const pulse = new Pulse();
  let wakes = 0;
  pulse.onWake = () => wakes++;
  await standStill(11_000);
  const steady = watch(pulse.steady());
  assert.equal(wakes, 1);
  await pass(1_900);
  assert.equal(steady.done, false);
  await pass(200);
  assert.equal(steady.done, true);
});

test("a page that is woken once a minute is never steady", async (t) => {
  setClock(t);
  const pulse = new Pulse();
  await standStill(60_000);
  const steady = watch(pulse.steady());
  for (let i = 0; i < 10; i++) {
    await pass(1_000);
    await standStill(59_000);
  }
  assert.equal(steady.done, false);
  await pass(2_100);
  assert.equal(steady.done, true);
});

test("a page whose user is back is steady at once", async (t) => {
  setClock(t);
  const pulse = new Pulse();
  await standStill(60_000);
  pulse.awake();
  await pulse.steady();
});

test("a clock that is set back makes no page wait", async (t) => {
  setClock(t);
  const pulse = new Pulse();
  await standStill(60_000);
  pulse.beat();
  mock.timers.reset();
  mock.timers.enable({ apis: ["Date"], now: 1 });
  await pulse.steady();
});

test("a visible page asks every 10 s, a hidden one only when it is told to", async (t) => {
  setClock(t);
  let asked = 0;
  const liveness = new Liveness(async () => asked++ >= 0);
  t.after(() => liveness.setVisible(false));
  liveness.setVisible(true);
  assert.equal(asked, 1);
  await pass(10_100);
  assert.ok(asked >= 2 && asked <= 3, `asked ${asked} times in 10 s`);
  liveness.setVisible(false);
  const before = asked;
  await pass(60_000);
  assert.equal(asked, before);
  await liveness.ask();
  await pass(60_000);
  assert.equal(asked, before + 1);
});

test("on a slow network more time is given", async (t) => {
  setClock(t);
  const limits: number[] = [];
  // An answer takes 5 s, so that a connection is replaced after less.
  const liveness = new Liveness(async (limit) => {
    limits.push(limit);
    await new Promise((resolve) => setTimeout(resolve, Math.min(limit, 5_000)));
    return limit > 5_000;
  });
  t.after(() => liveness.setVisible(false));
  t.mock.method(performance, "now", () => Date.now());
  liveness.setVisible(true);
  await pass(120_000);
  assert.deepEqual(limits.slice(0, 5), [2_000, 4_000, 8_000, 15_000, 15_000]);
});

test("a page without a connection gives no more time than before", async (t) => {
  setClock(t);
  const limits: number[] = [];
  const liveness = new Liveness(async (limit) => limits.push(limit) < 0);
  t.after(() => liveness.setVisible(false));
  liveness.setVisible(true);
  await pass(60_000);
  assert.ok(limits.length > 3);
  assert.deepEqual(new Set(limits), new Set([2_000]));
});

test("a page is idle after it was hidden for the time that was chosen", async (t) => {
  setClock(t);
  const told: boolean[] = [];
  const idle = new Idle(60_000, (now) => told.push(now));
  idle.setVisible(true);
  idle.setVisible(false);
  await pass(59_900);
  idle.setVisible(true);
  idle.setVisible(false);
  await pass(59_900);
  assert.deepEqual(told, []);
  await pass(200);
  assert.deepEqual(told, [true]);
  idle.setVisible(true);
  assert.deepEqual(told, [true, false]);
});

test("with Infinity a page is never idle", async (t) => {
  setClock(t);
  const idle = new Idle(Infinity, () => assert.fail("idle"));
  idle.setVisible(false);
  await pass(60_000);
  assert.equal(idle.now, false);
});

/** Whether a promise is settled. */
function watch(promise: Promise<unknown>): { done: boolean } {
  const watched = { done: false };
  void promise.finally(() => (watched.done = true));
  return watched;
}
