import { createServer, type Server as HTTPServer } from "node:http";
import { createServer as createTLSServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { packageDir } from "./commands.js";
import type { Certificate } from "./certificate.js";
import type { Owner } from "./process.js";

/** What is served at a path: the text, and headers beside those of its kind. */
export interface Served {
  body: string;
  headers?: Record<string, string>;
}

export interface SiteOptions {
  /** Serves https with it. */
  certificate?: Certificate;
}

/** A web server of the test on loopback. */
export interface Site {
  /** Such as http://127.0.0.1:40123, for presenced's `origins`. */
  readonly origin: string;
  /** Its first page: the origin and a slash. */
  readonly url: string;
  /** What it serves, by path without a query. It may change while the site runs. */
  readonly files: Map<string, Served>;
}

const kinds: Record<string, string> = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

/**
 * Serves files on a free port of 127.0.0.1 until the owner ends. "/" is an empty page that loads
 * /app.js, unless the files say otherwise.
 *
 *     const site = await startSite(t, { "/app.js": await bundle(`import … from "presence-client"; …`) });
 *     const service = await startPresenced(t, { origins: [site.origin] });
 */
export async function startSite(owner: Owner, files: Record<string, string | Served>, options: SiteOptions = {}): Promise<Site> {
  const served = new Map<string, Served>([["/", { body: emptyPage }]]);
  for (const [path, file] of Object.entries(files)) {
    served.set(path, typeof file === "string" ? { body: file } : file);
  }
  const { certificate } = options;
  const server: HTTPServer = certificate ? createTLSServer({ cert: certificate.cert, key: certificate.key }) : createServer();
  server.on("request", (request, response) => {
    const path = (request.url ?? "/").replace(/\?.*/, "");
    const file = served.get(path);
    const kind = kinds[/\.(\w+)$/.exec(path)?.[1] ?? "html"] ?? "text/plain";
    response.writeHead(file ? 200 : 404, { "content-type": `${kind}; charset=utf-8`, ...file?.headers });
    response.end(file?.body ?? "not here");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  owner.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const origin = `${certificate ? "https" : "http"}://127.0.0.1:${port}`;
  return { origin, url: origin + "/", files: served };
}

const emptyPage = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>test</title><body><script type="module" src="/app.js"></script>`;

/**
 * Bundles TypeScript for a page. `presence-client` and its sub-paths are the sources, and relative
 * imports are from test/. What it sets on globalThis, tests reach by page.evaluate. React is the one
 * for development, with its checks, unless it is for production.
 */
export async function bundle(
  code: string,
  loader: "ts" | "tsx" = "ts",
  mode: "development" | "production" = "development",
): Promise<string> {
  const { outputFiles } = await build({
    absWorkingDir: packageDir,
    stdin: { contents: code, loader, resolveDir: join(packageDir, "test"), sourcefile: "page." + loader },
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    sourcemap: "inline",
    define: { "process.env.NODE_ENV": JSON.stringify(mode) },
    alias: {
      "presence-client": "./src/index.ts",
      ...Object.fromEntries(["page", "chat", "react", "gateway"].map((sub) => [`presence-client/${sub}`, `./src/${sub}/index.ts`])),
    },
  });
  return outputFiles[0]?.text ?? "";
}
