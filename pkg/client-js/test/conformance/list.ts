import { readFileSync } from "node:fs";

// The list of what a client in any language must do. The README beside it describes the files.
const directory = new URL("../../../../protocol/testdata/conformance/", import.meta.url);

/** Reads one file of the list. Objects that stand for a text or a list are replaced by it. */
export function conformanceList<T>(file: string): T {
  return JSON.parse(readFileSync(new URL(file, directory), "utf8"), expand) as T;
}

/** Reads a golden file of a message. */
export function golden(name: string): Buffer {
  return readFileSync(new URL(`../${name}.json`, directory));
}

function expand(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if ("repeat" in value && "times" in value) return String(value.repeat).repeat(Number(value.times));
  if ("list" in value && "times" in value) return Array(Number(value.times)).fill(value.list);
  if ("series" in value) return Array.from({ length: Number((value as { times?: number }).times) }, (_, i) => `${String(value.series)}${i}`);
  if ("utf16" in value) return String.fromCharCode(...(value.utf16 as number[]));
  return value;
}

/** The code of the error that f throws; undefined if it throws none. */
export function codeOf(f: () => unknown): unknown {
  try {
    f();
    return undefined;
  } catch (error) {
    return (error as { code?: unknown }).code ?? error;
  }
}
