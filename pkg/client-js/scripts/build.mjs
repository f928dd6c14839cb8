// npm run build: src → dist.
import { rmSync } from "node:fs";
import { root, tsc } from "./run.mjs";

rmSync(root + "dist", { recursive: true, force: true });
tsc("-p", "tsconfig.build.json");
