import { connect } from "@nats-io/transport-node";
import { after, test } from "node:test";
import { Face } from "../face.js";
import { scenarios } from "./scenarios.js";
import { World } from "./world.js";

const face = await Face.start({ after });

for (const [name, scenario] of Object.entries(scenarios)) {
  test(`in Node: ${name}`, async () => {
    const world = new World({ connect, options: { servers: face.service.nats } });
    try {
      await scenario(world);
    } finally {
      await world.close();
    }
  });
}
