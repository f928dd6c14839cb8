// A page that is really hidden for ten minutes.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { enter, startStage } from "./kit/stage.js";
import { throttled } from "./kit/throttled.js";

const stage = await startStage({ after });
const minute = 60_000;

test("a page hidden for ten minutes stays ONLINE, and is idle", async (t) => {
  const { login, seen, profile, other, proxy } = await enter(t, stage);
  const tab = await login();
  await profile.open(other); // in front of it
  await sleep(5 * minute);
  await throttled(tab, 2 * minute);
  await sleep(5 * minute); // more than the TTL of 180 s
  const [session] = await seen.live();
  assert.deepEqual([session?.ttlSeconds, session?.idle], [180, true]);
  assert.deepEqual(seen.causes, ["login", "set"]);
  assert.equal(proxy.connections, 1);
});
