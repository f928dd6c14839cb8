// Browsers that are killed, and that stand still.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { startChromium } from "./kit/chromium.js";
import { enter, live, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

describe("death", { concurrency: 2 }, () => {
  test("a killed page, and a killed browser, are lost", async (t) => {
    const browser = await startChromium(t);
    const { login, seen } = await enter(t, { ...stage, browser });
    await login({ grace: "1" });
    await browser.killRenderers();
    await seen.saw("login", "lost");

    await login({ grace: "1" });
    await seen.saw("login", "lost", "login");
    const killed = Date.now();
    await browser.kill();
    await seen.saw("login", "lost", "login", "lost");
    const took = Date.now() - killed;
    assert.ok(took < 8_000, `OFFLINE after ${took} ms, want 1,000 to 2,000 (G5)`);
  });

  test("a machine that slept is lost, and comes back as the same session", async (t) => {
    const { browser } = stage;
    const { login, seen } = await enter(t, stage);
    const tab = await login({ grace: "1" });
    const id = await tab.eval("session.sessionID");
    browser.pause();
    await seen.saw("login", "lost"); // the broker's PINGs have no answer
    browser.resume();
    const woken = Date.now();
    await seen.saw("login", "lost", "login");
    const took = Date.now() - woken;
    assert.ok(took > 1_500, `ONLINE ${took} ms after it woke, want 2,000 at least`);
    await live(tab);
    assert.deepEqual((await seen.live()).map((s) => s.sessionID), [id]);
  });
});
