// What networks, services and browsers do to the connection of a page.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import type { Tab } from "./kit/chromium.js";
import { enter, live, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

describe("a page's connection", { concurrency: 4 }, () => {
  /** What makes a hidden page ask at once whether its connection is alive. */
  const occasions = {
    "is seen": (tab: Tab) => tab.front(),
    "is on line": (tab: Tab) => tab.eval(`dispatchEvent(new Event("online"))`),
    "runs again": (tab: Tab) => tab.freeze().then(() => tab.thaw()),
  };

  for (const [what, happen] of Object.entries(occasions)) {
    test(`a connection that the network forgot is replaced when the page ${what}`, async (t) => {
      const { login, seen, proxy, profile, other } = await enter(t, stage);
      const tab = await login({ probe: "0" }); // it does not ask by itself
      await profile.open(other); // in front of it
      proxy.forget();
      await happen(tab);
      await eventually("another connection", () => proxy.connections === 2);
      await live(tab);
      await tab.eval(`session.setStatus("here")`);
      await seen.saw("login", "set");
    });
  }

  test("a visible page notices by itself that the network forgot its connection", async (t) => {
    const { login, seen, proxy } = await enter(t, stage);
    const tab = await login();
    proxy.forget();
    await eventually("another connection", () => proxy.connections === 2);
    await live(tab);
    assert.deepEqual(seen.causes, ["login"]);
  });

  test("a dead connection is replaced within a second", async (t) => {
    const { login, proxy } = await enter(t, stage);
    const tab = await login();
    proxy.forget();
    const took = await tab.eval(`(async () => {
      const begun = performance.now();
      presence.reconnect("the test says so");
      await presence.connected();
      return performance.now() - begun;
    })()`);
    assert.equal(proxy.connections, 2);
    assert.ok(took < 5_000, `replaced after ${took} ms, want under 1,000`);
  });

  /** Makes the browser say that it is off line, and returns the state at that moment. */
  const sayOffline = (tab: Tab) =>
    tab.eval(`Object.defineProperty(navigator, "onLine", { value: false, configurable: true });
      dispatchEvent(new Event("offline"));
      presence.state`);
  const offline = { live: false, reason: "offline" };

  test("off line is blind until the broker answers, and pauses nothing", async (t) => {
    const { login, seen, proxy } = await enter(t, stage);
    const tab = await login();
    await live(tab);
    assert.deepEqual(await sayOffline(tab), offline);
    await tab.eval(`session.setStatus("off line")`);
    await seen.saw("login", "set");
    await live(tab);
    assert.equal(proxy.connections, 1);
  });

  test("off line without a connection is blind until there is another", async (t) => {
    const { login, proxy } = await enter(t, stage);
    const tab = await login();
    await live(tab);
    proxy.forget();
    assert.deepEqual(await sayOffline(tab), offline);
    await live(tab);
    assert.equal(proxy.connections, 2);
  });

  test("back on line is blind no more", async (t) => {
    const { login } = await enter(t, stage);
    const tab = await login();
    await live(tab);
    assert.deepEqual(await sayOffline(tab), offline);
    const reason = await tab.eval(`delete navigator.onLine;
      dispatchEvent(new Event("online"));
      presence.state.reason`);
    assert.notEqual(reason, "offline");
  });

  test("a service that is killed and started again is not noticed", async (t) => {
    const service = await startPresenced(t, { origins: [stage.site.origin] });
    const { login, seen } = await enter(t, { ...stage, service });
    const tab = await login();
    await service.kill();
    await eventually("blind", () => tab.eval("!presence.state.live"));
    await service.start();
    await live(tab);
    await eventually("the session", async () => (await seen.live())[0]?.bound);
    assert.deepEqual(seen.causes, ["login"]);
  });

  test("a policy that forbids the connection is named", async (t) => {
    const { proxy, profile } = await enter(t, stage);
    const page = stage.site.files.get("/");
    const headers = { "content-security-policy": "default-src 'self'" };
    stage.site.files.set("/strict.html", { body: page?.body ?? "", headers });
    const tab = await profile.open(`${stage.site.url}strict.html?servers=${proxy.url}`);
    const error = "globalThis.presence?.state.error?.message";
    assert.equal(
      await eventually("an error", () => tab.eval(error)),
      `the page's content security policy has no ${proxy.url}/ in connect-src`,
    );
    assert.equal(proxy.connections, 0);
  });

  test("servers without ws:// or wss:// are an error", async (t) => {
    const { profile } = await enter(t, stage);
    const tab = await profile.open(`${stage.site.url}?servers=127.0.0.1:4222`);
    const error = "globalThis.presence?.state.error?.code";
    assert.equal(await eventually("an error", () => tab.eval(error)), "invalid_request");
  });
});
