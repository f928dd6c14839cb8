// npm test: compiles sources and tests to dist-test, builds presenced, and runs the tests.
//
//   npm test                    all tests, without the long ones
//   npm test -- session merge   those of files whose path has one of these words
//   npm run test:long           the long ones: test/**/*.long.test.ts
//   npm test -- --name "twice"  those whose name matches, as node --test-name-pattern does
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root, run, tsc } from "./run.mjs";

/** Files of tests that run at once: most of a test's time is waiting. */
const concurrency = 4;

/** The longest that one file of tests may take, in ms. */
const limit = { usual: 240_000, long: 900_000 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { long: { type: "boolean", default: false }, name: { type: "string" } },
});

for (const output of ["src", "test"]) {
  rmSync(join(root, "dist-test", output), { recursive: true, force: true });
}
tsc("-p", "tsconfig.test.json");
const bin = join(root, "dist-test/bin/");
mkdirSync(bin, { recursive: true });
run("go", "build", "-C", join(root, "../.."), "-o", bin, "./cmd/...", "./integration/authcallout/webapp");

const files = readdirSync(join(root, "dist-test/test"), { recursive: true })
  .filter((file) => file.endsWith(".test.js") && file.endsWith(".long.test.js") === values.long)
  .filter((file) => positionals.length === 0 || positionals.some((word) => `test/${file}`.includes(word)))
  .map((file) => join("dist-test/test", file))
  .sort();
if (files.length === 0) {
  console.error("there is no such test");
  process.exit(1);
}
run(
  process.execPath,
  "--enable-source-maps",
  ...(globalThis.WebSocket ? [] : ["--experimental-websocket"]), // Node 20 hides it
  "--test",
  "--test-reporter=spec",
  `--test-concurrency=${concurrency}`,
  `--test-timeout=${values.long ? limit.long : limit.usual}`,
  ...(values.name ? [`--test-name-pattern=${values.name}`] : []),
  ...files,
);
