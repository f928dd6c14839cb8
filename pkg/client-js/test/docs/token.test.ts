// The recipe of docs/security.md: a page that connects by a token of its own backend. The page is
// the document's block, the backend is the example that it names.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { execFile } from "node:child_process";
import { startChromium } from "../kit/chromium.js";
import { command, presencectl, projectDir } from "../kit/commands.js";
import { startPresenced } from "../kit/presenced.js";
import { eventually, Process } from "../kit/process.js";
import { bundle } from "../kit/site.js";

interface Shown {
  state(): string;
  set(user: string): Promise<string>;
}
declare const shown: Shown;

/** Besides the block: what the test asks the page for. */
const rest = `
  import { wsconnect } from "@nats-io/nats-core";
  import { openPage } from "presence-client/page";
  document.body.append("logged in to the application");
  globalThis.shown = {
    state: () => presence.state.live ? "live" : String(presence.state.error?.message),
    async set(user) {
      const options = await (await fetch("/presence-token", { method: "POST" })).json();
      const nc = await wsconnect(options);
      try {
        return (await nc.request("presence.v1.user." + user + ".set", '{"customStatus":"by a token"}', { timeout: 10_000 })).string();
      } finally {
        await nc.close();
      }
    },
  };
`;

test("a page logs in by a token of its own backend, as that user and nobody else", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "presence-webapp-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const [nats, webSocket, listen] = await Promise.all([freeAddress(), freeAddress(), freeAddress()]);
  const webapp = await command("webapp");
  await presencectl("nats-config", join(dir, "web"), "--auth", "nkey", "--listen", nats);
  await promisify(execFile)(webapp, ["setup", join(dir, "web"), "--listen", listen, "--websocket", webSocket]);

  const block = /^```js token\n(.*?)^```$/ms.exec(await readFile(join(projectDir, "docs/security.md"), "utf8"))?.[1];
  assert.ok(block);
  await writeFile(join(dir, "index.html"), `<!doctype html><meta charset="utf-8"><title>web</title><body><script type="module" src="app.js"></script>`);
  await writeFile(join(dir, "app.js"), await bundle(block + rest));

  const service = await startPresenced(t, { config: join(dir, "web/nats.conf") });
  const args = ["run", join(dir, "web"), "--page", dir, "--nats", `nats://${nats}`, "--listen", listen, "--websocket", webSocket];
  const app = new Process(t, webapp, args);
  await app.says(/is ready/);
  const operator = ["--server", `nats://${nats}`, "--nkey", join(dir, "web/operator-operator.nk"), "--inbox-prefix", "_INBOX.operator.operator"];
  const status = (user: string): Promise<string> => presencectl(...operator, "get", user).catch(String);

  const browser = await startChromium(t);
  const page = await browser.open(`http://${listen}/`);
  const logIn = (user: string): Promise<number> => page.evaluate(async (user) => (await fetch("/login?user=" + user, { method: "POST" })).status, user);
  assert.equal(await page.evaluate(async () => (await fetch("/presence-token", { method: "POST" })).status), 401);
  assert.equal(await logIn(""), 400);
  assert.equal(await logIn("alice"), 204);
  await page.reload();
  await page.getByText("logged in to the application").waitFor();
  assert.ok(await eventually("alice to be ONLINE", async () => /alice +ONLINE/.test(await status("alice"))));
  assert.match(await page.evaluate(() => shown.set("alice")), /by a token/);
  await assert.rejects(page.evaluate(() => shown.set("bob")), /ermission/);

  // While the backend is away nobody is let in; then the page comes back by itself.
  await app.kill();
  await service.restart();
  await eventually("the page to be without a connection", async () => (await page.evaluate(() => shown.state())) !== "live");
  await new Process(t, webapp, args).says(/is ready/);
  assert.equal(await logIn("alice"), 204); // the backend's key was made anew, so the cookie is void
  assert.ok(await eventually("the page to be live again", async () => (await page.evaluate(() => shown.state())) === "live"));
  assert.match(await status("alice"), /alice +ONLINE/);
});

/** An address of loopback that is free at the moment. */
async function freeAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}
