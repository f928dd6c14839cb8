// npm run size: measures the core, which is presence-client alone, as a bundler would ship it:
// minified, without its peers, compressed as web servers do. It fails above the limit.
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { root } from "./run.mjs";

/** In bytes, after brotli. */
const limit = 15_000;

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  external: ["@nats-io/*"],
});
const code = outputFiles[0].contents;
const size = { minified: code.length, gzip: gzipSync(code, { level: 9 }).length, brotli: brotliCompressSync(code).length };
console.log(`the core has ${size.minified} bytes minified, ${size.gzip} with gzip, ${size.brotli} with brotli; at most ${limit} with brotli`);
if (size.brotli > limit) {
  console.error("the core is too large");
  process.exit(1);
}
