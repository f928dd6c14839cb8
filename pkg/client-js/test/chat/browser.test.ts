import { after, test } from "node:test";
import { Face, file } from "../face.js";
import type { Run } from "./page.js";
import { scenarios } from "./scenarios.js";

declare const run: Run; // in the page

const face = await Face.start({ after }, { pages: true });

for (const name of Object.keys(scenarios)) {
  test(`in Chromium: ${name}`, async () => {
    const page = await face.openPage(file("./chat/page.ts"));
    try {
      await page.evaluate(([scenario, server]) => run(scenario, server), [name, face.service.webSocket] as const);
    } finally {
      await page.close();
    }
  });
}
