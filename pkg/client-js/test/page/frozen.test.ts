// A frozen page that is woken for a moment once in a while.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { enter, live, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

test("a frozen page is lost, and does not come and go", async (t) => {
  const { login, seen, profile, other } = await enter(t, stage);
  const tab = await login({ grace: "1" });
  const id = await tab.eval("session.sessionID");
  await profile.open(other); // in front of it
  const count = await tab.eval("counter.n");
  await tab.freeze();
  await seen.saw("login", "lost");
  for (let i = 0; i < 2; i++) {
    await tab.thaw();
    await sleep(500);
    await tab.freeze();
    await sleep(11_000);
  }
  assert.deepEqual(seen.causes, ["login", "lost"]);
  const ran = (await tab.eval("counter.n")) - count;
  assert.ok(ran > 0 && ran < 100, `the page's counter ran ${ran} times of about 400: it was frozen`);

  await tab.thaw();
  await seen.saw("login", "lost", "login");
  await live(tab);
  assert.deepEqual((await seen.live()).map((s) => s.sessionID), [id]);
});
