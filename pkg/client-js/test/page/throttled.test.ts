// A page hidden for so long that Chromium runs its timers once a minute: for more than 5 minutes,
// or 10 s by a flag.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { eventually } from "../kit/process.js";
import { enter, live, startStage } from "./kit/stage.js";
import { throttled } from "./kit/throttled.js";

const flags = ["--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10"];
const stage = await startStage({ after }, { flags });

test("a page whose timers stand still hears of others, and comes back at once", async (t) => {
  const { login, seen, proxy, profile, other } = await enter(t, stage);
  const bob = await enter(t, stage);
  const tab = await login();
  await tab.eval(`(async () => {
    globalThis.heard = [];
    presence.on("status", (list) => heard.push(...list.filter((s) => s.userID === "${bob.user}")));
    await presence.subscribe(["${bob.user}"]);
  })()`);
  await profile.open(other); // in front of it
  await throttled(tab);

  await bob.login();
  await eventually("the event", () => tab.eval("heard.some((s) => s.statusType === 1)"));

  const begun = Date.now();
  proxy.cut();
  await eventually("another connection", () => proxy.connections === 2);
  await live(tab);
  const took = Date.now() - begun;
  assert.ok(took < 15_000, `live after ${took} ms, want 1,000 to 4,000; a minute by timers alone`);
  assert.deepEqual(seen.causes, ["login"]);
});
