import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { connect } from "@nats-io/transport-node";
import { wsconnect, type NatsConnection } from "@nats-io/nats-core";
import { presencectl } from "./commands.js";
import { startPresenced } from "./presenced.js";
import { eventually, type Owner } from "./process.js";

async function setText(nc: NatsConnection, user: string, text: string): Promise<string> {
  const reply = await nc.request(`presence.v1.user.${user}.set`, JSON.stringify({ customStatus: text }), { timeout: 10_000 });
  return reply.string();
}

async function textOf(nc: NatsConnection, user: string): Promise<string> {
  const reply = await nc.request("presence.v1.get", JSON.stringify({ userIDList: [user] }), { timeout: 10_000 });
  return (reply.json() as { successUserList: { customStatus: string }[] }).successUserList[0]?.customStatus ?? "";
}

test("presenced is there over TCP, WebSocket and HTTP, and keeps data and ports", async (t) => {
  const service = await startPresenced(t);
  const tcp = await connect({ servers: service.nats });
  const webSocket = await wsconnect({ servers: service.webSocket });
  t.after(() => Promise.all([tcp.close(), webSocket.close()]).then(() => undefined));
  await setText(tcp, "alice", "over TCP");
  assert.equal(await textOf(webSocket, "alice"), "over TCP");
  assert.equal((await fetch(service.http + "/readyz")).status, 200);
  assert.match(await presencectl("--server", service.nats, "get", "alice"), /over TCP/);

  const before = [service.nats, service.webSocket, service.http];
  for (const end of [() => service.kill(), () => service.stop()]) {
    await end();
    await service.start();
    assert.deepEqual([service.nats, service.webSocket, service.http], before);
    const again = await connect({ servers: service.nats });
    assert.equal(await textOf(again, "alice"), "over TCP");
    await again.close();
  }
});

test("presenced that is paused answers nothing, and goes on", async (t) => {
  const service = await startPresenced(t);
  const nc = await connect({ servers: service.nats });
  t.after(() => nc.close());
  await service.pause();
  await assert.rejects(nc.request("presence.v1.get", '{"userIDList":["alice"]}', { timeout: 300 }));
  service.resume();
  assert.equal(await eventually("an answer", () => textOf(nc, "alice").then((text) => text === "")), true);
});

test("nothing is left when its owner ends", async () => {
  const ends: (() => void | Promise<void>)[] = [];
  const owner: Owner = { after: (end) => ends.push(end) };
  const service = await startPresenced(owner);
  const { pid } = service.process;
  for (const end of ends) {
    await end();
  }
  assert.equal(existsSync(service.data), false);
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
});

test("presenced that cannot start is an error that says why", async (t) => {
  await assert.rejects(startPresenced(t, { args: ["--bogus"] }), /--bogus/);
});
