// A page's life in Chromium, as others see its user.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { presencectl } from "../kit/commands.js";
import { eventually } from "../kit/process.js";
import { bundle } from "../kit/site.js";
import { enter, live, loggedIn, reload, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

describe("a page's life", { concurrency: 4 }, () => {
  /** The grace of a session by default is 5 s, and a loss is told within 1 s more (G5). */
  const graceAndMore = 6_500;

  test("a Presence in a SharedWorker outlives the freezing of its page", async (t) => {
    const { profile, proxy, seen, user, other } = await enter(t, stage);
    const worker = `
      import { wsconnect } from "@nats-io/nats-core";
      import { Presence } from "presence-client";
      const presence = new Presence({ connect: wsconnect, options: { servers: "${proxy.url}" } });
      const session = presence.login("${user}", { platform: "web", graceSeconds: 1 });
      globalThis.onconnect = async ({ ports: [port] }) => port.postMessage((await session).sessionID);`;
    stage.site.files.set(`/${user}.js`, { body: await bundle(worker) });
    const tab = await profile.open(stage.site.url);
    await eventually("the page", () => tab.eval("globalThis.loaded"));
    const id = await tab.eval(`new Promise((resolve) => {
      globalThis.worker = new SharedWorker("/${user}.js", { type: "module" });
      worker.port.onmessage = ({ data }) => resolve(data);
    })`);
    await profile.open(other);
    await tab.freeze();
    await sleep(20_000); // a frozen page of its own would be lost after some 16 s
    assert.deepEqual(seen.causes, ["login"]);
    assert.deepEqual((await seen.live()).map((s) => s.sessionID), [id]);
    await tab.close();
    await seen.saw("login", "lost");
  });

  test("a reload is not noticed, and resumes the session", async (t) => {
    const { login, seen } = await enter(t, stage);
    const tab = await login();
    const id = await tab.eval("session.sessionID");
    for (let i = 0; i < 3; i++) {
      await reload(tab);
      assert.equal(await tab.eval("session.sessionID"), id);
    }
    await sleep(graceAndMore);
    assert.deepEqual(seen.causes, ["login"]);
    const { sessions } = await seen.own();
    assert.deepEqual(sessions.map((s) => [s.sessionID, s.platform, s.ttlSeconds]), [[id, "web", 180]]);
  });

  test("a page that is left is lost, and comes back from the back-forward cache", async (t) => {
    const scene = await enter(t, stage);
    const tab = await scene.login({ grace: "1" });
    const id = await tab.eval("session.sessionID");
    await tab.go(scene.other);
    await scene.seen.saw("login", "lost");
    await tab.back();
    await scene.seen.saw("login", "lost", "login");
    await live(tab);
    const events = await tab.eval<string[]>("events");
    assert.deepEqual(events.filter((event) => event.startsWith("page")), [
      "pageshow false",
      "pagehide true",
      "pageshow true",
    ]);
    assert.deepEqual((await scene.seen.live()).map((s) => s.sessionID), [id]);
    await tab.eval(`session.setStatus("back")`);
    await scene.seen.saw("login", "lost", "login", "set");
  });

  test("a page that is back within the grace was never away", async (t) => {
    const scene = await enter(t, stage);
    const tab = await scene.login();
    await tab.go(scene.other);
    await eventually("the other page", () => tab.eval("location.search === ''"));
    await tab.back();
    await live(tab);
    await sleep(graceAndMore);
    assert.deepEqual(scene.seen.causes, ["login"]);
  });

  test("the pages of one tab are one session", async (t) => {
    const { login, seen } = await enter(t, stage);
    const tab = await login();
    const id = await tab.eval("session.sessionID");
    await tab.go((await tab.eval<string>("location.href")) + "&next=page");
    await eventually("the next page", () => tab.eval("location.search.includes('next')"));
    await loggedIn(tab);
    assert.equal(await tab.eval("session.sessionID"), id);
    await tab.back();
    await eventually("the page", () => tab.eval("!location.search.includes('next')"));
    await live(tab);
    assert.deepEqual(await tab.eval("events.includes('pageshow true')"), true);
    await eventually("its session", async () => (await seen.live()).every((s) => s.sessionID === id));
    await sleep(graceAndMore);
    assert.equal((await seen.own()).sessions.length, 1);
    assert.deepEqual(seen.causes, ["login"]);
  });

  test("a page that was left makes no connection until it is back", async (t) => {
    const { login, proxy, seen } = await enter(t, stage);
    const tab = await login({ grace: "1" });
    // As if it were left: a page in the back-forward cache cannot be asked.
    const tell = (type: string) =>
      tab.eval(`dispatchEvent(new PageTransitionEvent("${type}", { persisted: true }))`);
    await tell("pagehide");
    assert.deepEqual(await tab.eval("presence.state"), { live: false, reason: "suspended" });
    await seen.saw("login", "lost");
    await tab.eval(`dispatchEvent(new Event("online"))`);
    await sleep(1_000);
    assert.equal(proxy.connections, 1);
    await tell("pageshow");
    await seen.saw("login", "lost", "login");
    assert.equal(proxy.connections, 2);
  });

  test("a duplicated tab is a session of its own, without the device", async (t) => {
    const { login, seen, profile } = await enter(t, stage);
    const tab = await login({ device: "laptop", grace: "1" });
    await tab.send("Runtime.evaluate", { expression: "open(location.href)", userGesture: true });
    const copyID = await eventually("the copy", async () =>
      (await profile.tabs()).find((id) => id !== tab.targetId),
    );
    const copy = await profile.attach(copyID);
    await loggedIn(copy);
    const id = await tab.eval("session.sessionID");
    const copied = await copy.eval("session.sessionID");
    assert.notEqual(copied, id);
    const devices = async () => (await seen.live()).map((s) => [s.sessionID, s.device]);
    assert.deepEqual(await devices(), [[id, "laptop"], [copied, undefined]]);
    await copy.close();
    await eventually("the copy's end", async () => (await seen.live()).length === 1);
    assert.deepEqual(await devices(), [[id, "laptop"]]);
    assert.deepEqual(seen.causes, ["login"]);
  });

  test("a hidden page is idle, and is not when it is seen again", async (t) => {
    const { login, seen, profile, other } = await enter(t, stage);
    const tab = await login({ idleAfter: "200" });
    await profile.open(other); // in front of it
    await eventually("idle", async () => (await seen.own()).status.availability === "away");
    await tab.front();
    await eventually("not idle", async () => !(await seen.own()).status.availability);
    await seen.saw("login", "set", "set");
  });

  test("closing the page logs out, and the next login is another session", async (t) => {
    const { login, seen } = await enter(t, stage);
    const tab = await login();
    const id = await tab.eval("session.sessionID");
    await tab.eval("presence.close()");
    await seen.saw("login", "logout");
    assert.equal(await tab.eval("sessionStorage.length"), 0);
    await reload(tab);
    assert.notEqual(await tab.eval("session.sessionID"), id);
  });

  test("a session that was kicked is not resumed by a reload", async (t) => {
    const { login, seen, user } = await enter(t, stage);
    const tab = await login();
    const id = await tab.eval("session.sessionID");
    await presencectl("--server", stage.service.nats, "kick", user);
    assert.equal(await tab.eval("session.ended.then((error) => error?.code)"), "session_replaced");
    await seen.saw("login", "kicked");
    await reload(tab); // which logs in, as somebody does by hand
    assert.notEqual(await tab.eval("session.sessionID"), id);
  });
});
