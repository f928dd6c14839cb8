// What the scripts share: where the package is, and how to run a program.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The directory of the package, with a slash at its end. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs a program in the package's directory. Where it fails, so does this process. */
export function run(program, ...args) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: "inherit" });
  if (error) {
    console.error(`${program}: ${error.message}`);
  }
  if (status !== 0) {
    process.exit(status ?? 1);
  }
}

/** Runs the TypeScript compiler of this package. */
export function tsc(...args) {
  run("node_modules/.bin/tsc", ...args);
}
