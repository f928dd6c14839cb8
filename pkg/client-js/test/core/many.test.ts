import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { NatsConnection } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";
import { live, presenceOf } from "./kit.js";

const USERS = 10_000;
const ids = Array.from({ length: USERS }, (_, i) => `user${i}`);
const pages = Array.from({ length: USERS / 500 }, (_, i) => ids.slice(i * 500, i * 500 + 500));

async function ask<T>(nc: NatsConnection, subject: string, body: object): Promise<T> {
  return (await nc.request(`presence.v1.${subject}`, JSON.stringify(body), { timeout: 30_000 })).json<T>();
}

/** What something takes of the processor, in ms: other processes do not count. */
async function cpuOf(f: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await f();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!;

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;
function heap(): number {
  gc();
  gc();
  return process.memoryUsage().heapUsed;
}

test("watching 10,000 users costs little more than the raw requests", async (t) => {
  const service = await startPresenced(t);
  const nc = await connect({ servers: service.nats });
  t.after(() => nc.close());
  await ask(nc, "gateway.gw1.open", { process: "p1", ttlSeconds: 3600 });
  for (const [i, page] of pages.entries()) {
    const ops = page.flatMap((userID) => [
      { op: "login", userID, sessionID: "s", platform: "web" },
      { op: "set", userID, customStatus: "in a meeting" },
    ]);
    await ask(nc, "gateway.gw1.apply", { process: "p1", seq: i + 1, ops });
  }

  const raw = async () => {
    const other = await connect({ servers: service.nats });
    const cpu = await cpuOf(async () => {
      for (const id of ids) other.subscribe(`presence.v1.status.${id}`, { callback: () => {} });
      for (const userIDList of pages) await ask(other, "get", { userIDList });
    });
    await other.close();
    return cpu;
  };
  const ours = async () => {
    const presence = presenceOf(t, service);
    await live(presence);
    let told = 0;
    presence.on("status", (list) => {
      assert.ok(list.length <= 500);
      told += list.length;
    });
    const before = heap();
    const cpu = await cpuOf(async () => {
      await presence.subscribe(ids);
      await eventually("all to be told", () => told === USERS);
    });
    const bytes = (heap() - before) / USERS;
    await presence.close();
    return { cpu, bytes };
  };
  const ratios: number[] = [];
  const memory: number[] = [];
  for (let i = 0; i < 3; i++) {
    const one = await raw();
    const { cpu, bytes } = await ours();
    ratios.push(cpu / one);
    memory.push(bytes);
  }
  t.diagnostic(`processor: ${median(ratios).toFixed(1)} × the raw requests; memory: ${median(memory).toFixed(0)} bytes a user`);
  assert.ok(median(ratios) < 6, `it takes ${ratios.map((r) => r.toFixed(1))} × the raw requests`);
  assert.ok(median(memory) < 3_000, `it takes ${memory.map((m) => m.toFixed(0))} bytes a user`);
});
