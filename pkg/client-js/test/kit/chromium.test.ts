import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "@nats-io/transport-node";
import { makeCertificate } from "./certificate.js";
import { startChromium } from "./chromium.js";
import { startPresenced } from "./presenced.js";
import { eventually } from "./process.js";
import { bundle, startSite } from "./site.js";
import { writeUsersConfig } from "./users.js";

/** A page that connects and offers a request; the sources of the client are not needed for that. */
const app = `
  import { wsconnect } from "@nats-io/nats-core";
  Object.assign(globalThis, {
    async ask(options: object, subject: string, body: object) {
      const nc = await wsconnect(options);
      return (await nc.request(subject, JSON.stringify(body), { timeout: 10_000 })).string();
    },
    async login(options: object, user: string) {
      const nc = await wsconnect(options);
      const connection = { serverID: nc.info?.server_id, clientID: nc.info?.client_id };
      await nc.request("presence.v1.user." + user + ".login", JSON.stringify({ ttlSeconds: 3600, connection }), { timeout: 10_000 });
    },
  });
`;

type Ask = (options: object, subject: string, body: object) => Promise<string>;
declare const ask: Ask;
declare const login: (options: object, user: string) => Promise<void>;

test("a page of an allowed origin reaches presenced, and one of another does not", async (t) => {
  const code = await bundle(app);
  const [site, other, browser] = await Promise.all([startSite(t, { "/app.js": code }), startSite(t, { "/app.js": code }), startChromium(t)]);
  const service = await startPresenced(t, { origins: [site.origin] });
  const body = { userIDList: ["alice"] };
  const from = async (url: string): Promise<string> => {
    const page = await browser.open(url);
    await page.waitForFunction(() => "ask" in globalThis);
    return page.evaluate(([servers, body]) => ask({ servers }, "presence.v1.get", body), [service.webSocket, body] as const);
  };
  assert.match(await from(site.url), /"userID":"alice"/);
  await assert.rejects(from(other.url));
});

test("a browser that is killed is gone at once, and so are its connections", async (t) => {
  const [site, browser] = await Promise.all([startSite(t, { "/app.js": await bundle(app) }), startChromium(t)]);
  const service = await startPresenced(t, { origins: [site.origin], args: ["--grace", "100ms"] });
  const nc = await connect({ servers: service.nats });
  t.after(() => nc.close());
  const status = async (): Promise<number> => {
    const reply = await nc.request("presence.v1.get", '{"userIDList":["alice"]}', { timeout: 10_000 });
    return (reply.json() as { successUserList: { statusType: number }[] }).successUserList[0]?.statusType ?? 0;
  };
  const page = await browser.open(site.url);
  await page.waitForFunction(() => "login" in globalThis);
  await page.evaluate((servers) => login({ servers }, "alice"), service.webSocket);
  assert.equal(await status(), 1);
  await browser.kill();
  assert.ok(await eventually("alice to be OFFLINE", async () => (await status()) === 2));
});

test("over TLS with a password each user has the permissions of one", async (t) => {
  const certificate = makeCertificate(t);
  const [site, browser] = await Promise.all([
    startSite(t, { "/app.js": await bundle(app) }, { certificate }),
    startChromium(t, { args: [certificate.chromiumFlag] }),
  ]);
  const config = await writeUsersConfig(t, { users: ["alice", "bob"], origins: [site.origin], certificate });
  const service = await startPresenced(t, { config: config.file });
  assert.match(service.webSocket, /^wss:/);
  const alice = config.logins.get("alice");
  assert.ok(alice);
  const page = await browser.open(site.url);
  await page.waitForFunction(() => "ask" in globalThis);
  const set = (user: string): Promise<string> =>
    page.evaluate(
      ([servers, login, user]) => ask({ servers, ...login }, `presence.v1.user.${user}.set`, { customStatus: "over TLS" }),
      [service.webSocket, alice, user] as const,
    );
  assert.match(await set("alice"), /over TLS/);
  await assert.rejects(set("bob"), /[Pp]ermission/);
  await service.restart();
  assert.match(await eventually("alice to be let in again", () => set("alice").catch(() => "")), /over TLS/);
});
