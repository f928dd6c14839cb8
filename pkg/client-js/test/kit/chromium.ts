import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { eventually, Process, type Owner } from "./process.js";

/** The browser. CI installs it where it is missing. */
const program = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

/**
 * Flags of every browser. Unlike playwright's own, they leave on what a page's life is about: the
 * back-forward cache, and the throttling of hidden tabs. All else keeps the browser from asking
 * anything of the network.
 */
const flags = [
  "--headless=new",
  "--no-sandbox", // the tests may run as root
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--no-default-browser-check",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-domain-reliability",
  "--disable-sync",
  "--disable-extensions",
  "--disable-breakpad",
  "--password-store=basic",
  "--use-mock-keychain",
  "--remote-debugging-port=0",
];

export interface ChromiumOptions {
  /** More flags. */
  args?: string[];
  /** What is put before the program, such as ["ip", "netns", "exec", "x"]. */
  within?: string[];
}

/**
 * Starts a Chromium of its own process and fresh user data, and connects to it. All is gone when
 * the owner ends.
 *
 *     const browser = await startChromium(t);
 *     const page = await browser.open(site.url);
 */
export async function startChromium(owner: Owner, options: ChromiumOptions = {}): Promise<Chromium> {
  if (!existsSync(program)) {
    throw new Error(`there is no ${program}: apt-get install chromium, or set CHROMIUM`);
  }
  const data = await mkdtemp(join(tmpdir(), "presence-chromium-"));
  const args = [...flags, ...(options.args ?? []), `--user-data-dir=${data}`, "about:blank"];
  const [first, ...rest] = options.within ?? [];
  const run = first ? new Process(owner, first, [...rest, program, ...args]) : new Process(owner, program, args);
  owner.after(async () => {
    await run.kill();
    // Its children end a moment after it, and write until then.
    await eventually("the browser's data to be removed", () => rm(data, { recursive: true, force: true }).then(() => true, () => false));
  });
  const port = await eventually("Chromium to say its port", () => {
    const file = join(data, "DevToolsActivePort");
    return existsSync(file) ? /^(\d+)\n\/devtools/.exec(readFileSync(file, "utf8"))?.[1] : undefined;
  });
  const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`);
  return new Chromium(run, browser);
}

/** A running Chromium. */
export class Chromium {
  constructor(
    /** Its main process, for kill -9 and SIGSTOP. */
    readonly process: Process,
    readonly browser: Browser,
  ) {}

  /** The profile that it was started with. Its tabs share storage, and are never seen as hidden or unfocused by playwright's doing alone. */
  get context(): BrowserContext {
    const [context] = this.browser.contexts();
    if (!context) {
      throw new Error("Chromium has no profile");
    }
    return context;
  }

  /** Opens a tab, and an address in it. */
  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  /** Ends the browser as a crash would: kill -9 of its main process. The others follow at once. */
  async kill(): Promise<void> {
    await this.process.kill();
  }
}
