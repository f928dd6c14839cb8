// A broker with users, passwords and permissions.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, test } from "node:test";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { writeUsersConfig } from "../kit/users.js";
import { observe } from "./kit/observer.js";
import { startProxy } from "./kit/proxy.js";
import { live, loggedIn, startStage } from "./kit/stage.js";

const stage = await startStage({ after });

test("a user whom the broker refuses for a while comes back", async (t) => {
  const config = await writeUsersConfig(t, { users: ["alice"], origins: [stage.site.origin] });
  const service = await startPresenced(t, { config: config.file });
  const operator = config.logins.get("operator");
  const seen = await observe(t, { servers: service.nats, ...operator }, "alice");
  const { pass = "" } = config.logins.get("alice") ?? {};
  const proxy = await startProxy(t, `ws://${config.webSocket}`);
  const asked = new URLSearchParams({ servers: proxy.url, user: "alice", pass });
  const profile = await stage.browser.profile(t);
  const tab = await profile.open(`${stage.site.url}?${asked.toString()}`);
  await loggedIn(tab);
  const id = await tab.eval("session.sessionID");

  const users = await readFile(config.file, "utf8");
  await service.stop();
  await writeFile(config.file, users.replace(/"alice"/, '"nobody"'));
  await service.start();
  const refused = `/authorization/i.test(presence.state.error?.message)`;
  await eventually("a refusal", () => tab.eval(refused));
  const before = proxy.connections;
  await eventually("more of them", () => proxy.connections > before + 2); // nats-core gives up after two
  assert.ok(await tab.eval(refused));
  await service.stop();
  await writeFile(config.file, users);
  await service.start();
  await live(tab);
  await tab.eval(`session.setStatus("again")`);
  assert.deepEqual((await seen.live()).map((s) => s.sessionID), [id]);
});
