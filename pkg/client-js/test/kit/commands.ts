import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Finds the package's directory upwards of the compiled file. */
function findPackage(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "package.json"))) {
    dir = dirname(dir);
  }
  return dir;
}

/** The directory of this package. */
export const packageDir = findPackage();

/** The directory of the whole project. */
export const projectDir = join(packageDir, "../..");

const bin = join(packageDir, "dist-test/bin");

let building: Promise<unknown> | undefined;

/** Programs that the tests run, by what `go build` calls them. */
const programs = { presenced: "./cmd/presenced", presencectl: "./cmd/presencectl", webapp: "./integration/authcallout/webapp" };

/**
 * The path of one of the project's commands. `npm test` has built them; whoever runs a file of
 * tests without it builds them here, once.
 */
export async function command(name: keyof typeof programs): Promise<string> {
  const path = join(bin, name);
  if (!existsSync(path)) {
    building ??= promisify(execFile)("go", ["build", "-o", bin + "/", ...Object.values(programs)], { cwd: projectDir });
    await building;
  }
  return path;
}

/** Runs presencectl to its end and returns what it printed. It fails unless the exit code is 0. */
export async function presencectl(...args: string[]): Promise<string> {
  return (await promisify(execFile)(await command("presencectl"), args)).stdout;
}
