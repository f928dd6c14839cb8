// The parts of a page's life, each by itself in Chromium.
import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { eventually } from "../kit/process.js";
import type { Tab } from "./kit/chromium.js";
import type { Proxy } from "./kit/proxy.js";
import { enter, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

/** A tab with the test page, which has done nothing yet, and a network to the service. */
async function open(t: TestContext): Promise<{ tab: Tab; proxy: Proxy }> {
  const { profile, proxy } = await enter(t, stage);
  const tab = await profile.open(stage.site.url);
  await loaded(tab);
  return { tab, proxy };
}

const loaded = (tab: Tab) => eventually("the page", () => tab.eval("globalThis.loaded"));

test("a socket on a dead network reports that it is closed within 500 ms", async (t) => {
  const { tab, proxy } = await open(t);
  await tab.eval(`(async () => {
    globalThis.sockets = new Sockets(() => {});
    const wsFactory = async (url) => sockets.open(url);
    globalThis.nc = await wsconnect({ servers: "${proxy.url}", wsFactory, reconnect: false });
  })()`);
  proxy.forget();
  // nats-core waits for buffers to become empty, and for close() to report.
  const took = await tab.eval(`(async () => {
    for (let i = 0; i < 50; i++) nc.publish("x", "x".repeat(5e5)); // more than its buffers hold
    const begun = performance.now();
    await nc.close();
    return performance.now() - begun;
  })()`);
  assert.ok(took >= 400 && took < 5_000, `it took ${took} ms`);
});

test("a socket reports once that it is closed", async (t) => {
  const { tab, proxy } = await open(t);
  await tab.eval(`(async () => {
    globalThis.closes = 0;
    const { socket } = new Sockets(() => {}).open("${proxy.url}");
    socket.addEventListener("close", () => closes++);
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    socket.close();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    socket.dispatchEvent(new CloseEvent("close")); // as Chromium does late, on a dead network
  })()`);
  assert.equal(await tab.eval("closes"), 1);
});

const tabSession = (storage = "sessionStorage", device = "undefined") =>
  `new TabSession({ locks: navigator.locks, storage: ${storage}, prefix: "p", userID: "alice", device: ${device} })`;

test("a tab keeps its session ID over a reload", async (t) => {
  const { tab } = await open(t);
  const first = await tab.eval(`${tabSession()}.sessionID("first")`);
  await tab.eval("globalThis.loaded = false"); // the new page sets it
  await tab.reload();
  await loaded(tab);
  assert.equal(await tab.eval(`(globalThis.mine = ${tabSession()}).sessionID("first")`), first);
  assert.equal(await tab.eval(`mine.sessionID("again", "${first}")`), first);
  const second = await tab.eval(`mine.sessionID("shared", "${first}")`);
  assert.notEqual(second, first);
  assert.equal(await tab.eval(`sessionStorage.getItem("p:session:alice")`), second);
  await tab.eval("mine.forget()");
  assert.equal(await tab.eval("sessionStorage.length"), 0);
});

test("of two that know one session ID and one device, one uses them", async (t) => {
  const { tab } = await open(t);
  const [a, b, devices] = await tab.eval(`(async () => {
    const one = ${tabSession("sessionStorage", '"laptop"')};
    const two = ${tabSession("sessionStorage", '"laptop"')};
    const a = await one.sessionID("first");
    const b = await two.sessionID("first");
    const devices = [one.device(), two.device() ?? "none"];
    one.release(); // as a page that is left
    devices.push(one.device() ?? "none");
    await one.sessionID("again", a);
    devices.push(one.device());
    await one.sessionID("shared", a);
    devices.push(one.device() ?? "none");
    return [a, b, devices];
  })()`);
  assert.notEqual(a, b);
  assert.deepEqual(devices, ["laptop", "none", "none", "laptop", "none"]);
});

test("a tab that finds its lock with another takes another session ID", async (t) => {
  const { tab } = await open(t);
  const [a, b, again] = await tab.eval(`(async () => {
    const one = ${tabSession()};
    const a = await one.sessionID("first");
    one.release();
    const two = ${tabSession()};
    const b = await two.sessionID("first");
    return [a, b, await one.sessionID("again", a)];
  })()`);
  assert.equal(a, b);
  assert.notEqual(again, a);
});

test("without locks or storage each load is a session of its own", async (t) => {
  const { tab } = await open(t);
  const [a, b, again, kept, c] = await tab.eval(`(async () => {
    const options = { locks: undefined, storage: sessionStorage, prefix: "p", userID: "alice", device: "laptop" };
    const one = new TabSession(options);
    const a = await one.sessionID("first");
    const again = await one.sessionID("again", a);
    const b = await new TabSession(options).sessionID("first");
    const failing = { getItem() { throw new Error("forbidden"); }, setItem() { throw new Error("full"); } };
    const c = await new TabSession({ ...options, locks: navigator.locks, storage: failing }).sessionID("first");
    return [a, b, again, sessionStorage.length, c];
  })()`);
  assert.notEqual(a, b);
  assert.equal(again, a);
  assert.equal(kept, 0);
  assert.match(c, /^[\w-]{1,64}$/);
});

test("what else is in the storage is no session ID", async (t) => {
  const { tab } = await open(t);
  const id = await tab.eval(`(async () => {
    sessionStorage.setItem("p:session:alice", "not an ID");
    return ${tabSession()}.sessionID("first");
  })()`);
  assert.match(id, /^[\w-]{1,64}$/);
});

test("a lock that is free is taken however slow the browser is, and freed while it is waited for", async (t) => {
  const { tab } = await open(t);
  const [slow, left, later] = await tab.eval(`(async () => {
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const locks = {
      async request(...args) {
        await wait(1500);
        return navigator.locks.request(...args);
      },
    };
    const one = new TabLock(locks, "lock");
    const slow = await one.take();
    one.release();
    const two = new TabLock(locks, "lock");
    const taking = two.take();
    two.release(); // the page is left
    const left = await taking;
    return [slow, left, await new TabLock(navigator.locks, "lock").take()];
  })()`);
  assert.deepEqual([slow, left, later], [true, false, true]);
});
