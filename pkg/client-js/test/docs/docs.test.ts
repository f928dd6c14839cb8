// The blocks "js browser" of the project's documents, each in a page of its own. The README of this
// package has a test of its own (readme.test.ts).
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { startChromium } from "../kit/chromium.js";
import { projectDir } from "../kit/commands.js";
import { startPresenced } from "../kit/presenced.js";
import { bundle, startSite } from "../kit/site.js";

/** What a block may use without importing it, as the documents' blocks in Go do. */
const prelude = `
  import { wsconnect } from "@nats-io/nats-core";
  import { openPage } from "presence-client/page";
`;

const documents = ["README.md", ...readdirSync(join(projectDir, "docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`)];
const blocks = documents.flatMap((name) =>
  [...readFileSync(join(projectDir, name), "utf8").matchAll(/^```js browser\n(.*?)^```$/gms)].map(([, code = ""], i) => ({ name: `${name}, block ${i + 1}`, code })),
);

const owner = { after };
const [site, browser] = await Promise.all([startSite(owner, {}), startChromium(owner)]);
const service = await startPresenced(owner, { origins: [site.origin] });

for (const { name, code } of blocks) {
  test(name, async () => {
    assert.ok(code.includes("ws://127.0.0.1:9222"), "it connects to the usual address");
    const program = `${prelude}${code.replaceAll("ws://127.0.0.1:9222", service.webSocket)}\nglobalThis.done = true;`;
    site.files.set("/app.js", { body: await bundle(program) });
    const page = await browser.context.newPage();
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    await page.goto(site.url);
    await page.waitForFunction(() => "done" in globalThis).catch((error: unknown) => problems.push(String(error)));
    assert.deepEqual(problems, []);
    await page.close();
  });
}

test("there are such blocks", () => assert.ok(blocks.length >= 2, `${blocks.length}`));
