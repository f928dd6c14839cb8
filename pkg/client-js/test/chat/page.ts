// The page of browser.test.ts: it runs a scenario by its name.
import { wsconnect } from "@nats-io/nats-core";
import { scenarios } from "./scenarios.js";
import { World } from "./world.js";

export async function run(name: string, server: string): Promise<void> {
  const world = new World({ connect: wsconnect, options: { servers: server } });
  try {
    await scenarios[name]!(world);
  } finally {
    await world.close();
  }
}

export type Run = typeof run;
