import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Face } from "./face.js";
import { packageDir } from "./kit/commands.js";
import { eventually, Process } from "./kit/process.js";

// The blocks of README.md, each as a program of its own that uses the package as its users do: by
// its name, its exports and its types.

const dir = join(packageDir, "dist-test/readme");
/** What is bundled and run, and what its output must have. */
const expected: Record<string, RegExp[]> = {
  node: [/userID: 'alice',\s+statusType: 1,\s+customStatus: 'in a meeting'/, /userID: 'bob',\s+statusType: 3/],
  gateway: [/userID: 'dave',\s+statusType: 1,\s+customStatus: 'on the train'/],
  browser: [/^alice 1 $/m, /^bob 3 $/m],
  react: [/^alice is online\s*$/m, /^bob is not logged in\s*$/m],
  chat: [/^alice is online in a meeting$/m, /^bob is not online $/m, /^\[\]$/m],
};

const face = await Face.start({ after }, { pages: true });
const blocks = new Map<string, { code: string; loader: "ts" | "tsx" }>();

before(async () => {
  npm("run", "build");
  mkdirSync(dir, { recursive: true });
  const readme = readFileSync(join(packageDir, "README.md"), "utf8");
  for (const [, lang, name, text] of readme.matchAll(/^```(js|tsx) (\w+)\n(.*?)^```$/gms)) {
    const loader = lang === "tsx" ? "tsx" : "ts";
    const { nats, webSocket } = face.service;
    const code = text!
      .replaceAll("ws://127.0.0.1:9222", webSocket)
      .replaceAll("127.0.0.1:4222", nats.replace("nats://", ""));
    assert.notEqual(code, text, `${name} connects to the usual address`);
    writeFileSync(join(dir, `${name}.${loader}`), code);
    blocks.set(name!, { code, loader });
  }
});

test("the README has these blocks of code, and no others", () => {
  assert.deepEqual([...blocks.keys()].sort(), Object.keys(expected).sort());
});

test("each block has the types that the package says", () => {
  const config = join(dir, "tsconfig.json");
  writeFileSync(config, JSON.stringify({ extends: "../../tsconfig.json", include: ["."], compilerOptions: { rootDir: ".", paths: {}, noUnusedLocals: false } }));
  const tsc = spawnSync(join(packageDir, "node_modules/.bin/tsc"), ["-p", config], { encoding: "utf8" });
  assert.equal(tsc.status, 0, tsc.stdout + tsc.stderr);
});

for (const name of ["node", "gateway"]) {
  test(`in Node: ${name}`, async () => {
    const program = join(dir, `${name}.mjs`);
    writeFileSync(program, blocks.get(name)!.code);
    const run = new Process({ after }, process.execPath, [program]);
    assert.equal(await run.exited, 0, run.stderr);
    for (const pattern of expected[name]!) assert.match(run.stdout, pattern);
  });
}

for (const name of ["browser", "react", "chat"]) {
  test(`in Chromium: ${name}`, async () => {
    const said: string[] = [];
    const page = await face.openPage({ name, ...blocks.get(name)! }, (line) => said.push(line));
    const output = async () => [...said, await page.innerText("body")].join("\n");
    try {
      for (const pattern of expected[name]!) {
        await eventually(`${name} to say ${pattern}`, async () => pattern.test(await output()), 10_000);
      }
    } catch (error) {
      assert.fail(`${String(error)}\nIt says:\n${await output()}`);
    } finally {
      await page.close();
    }
  });
}

function npm(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync("npm", args, { cwd: packageDir, encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
}
