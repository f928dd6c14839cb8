// npm run demo: bundles demo/ into presenced's sources, where go build embeds it. The result is
// committed, so that go build needs no Node. With --check it only fails where that is not current.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "./run.mjs";

const to = join(root, "../../cmd/presenced/internal/demo/page");

const banner = `/*! The demo page of presence, made of pkg/client-js/demo by "npm run demo". It holds
 * @nats-io/nats-core, @nats-io/nkeys and @nats-io/nuid: Copyright The NATS Authors, and tweetnacl,
 * in the public domain. Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0 */`;

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ["demo/main.ts"],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: { js: banner },
});
const files = new Map([["demo.js", Buffer.from(outputFiles[0].contents)]]);
for (const name of ["index.html", "demo.css", "icon.svg"]) {
  files.set(name, readFileSync(join(root, "demo", name)));
}

const old = [...files].filter(([name, text]) => !existsSync(join(to, name)) || !readFileSync(join(to, name)).equals(text));
if (!process.argv.includes("--check")) {
  mkdirSync(to, { recursive: true });
  for (const [name, text] of old) {
    writeFileSync(join(to, name), text);
    console.log(`wrote ${name}, ${text.length} bytes`);
  }
} else if (old.length > 0) {
  console.error(`the demo page is not current (${old.map(([name]) => name).join(", ")}): run "npm run demo" in pkg/client-js, and commit what it writes`);
  process.exit(1);
}
