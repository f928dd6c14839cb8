import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import type { Owner } from "../../kit/process.js";

/** How long Chromium may take to answer, in ms: long, because it shares few cores. */
const ANSWER_MS = 30_000;

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export interface ChromiumOptions {
  /** More flags. */
  flags?: string[];
  /** What is put before the program, such as ["ip", "netns", "exec", "x"]. */
  within?: string[];
}

type Params = Record<string, unknown>;
type Call = { resolve: (result: any) => void; reject: (error: Error) => void };

/**
 * Chromium, driven by its DevTools protocol over a pipe. Playwright keeps every page visible and
 * running, and the back-forward cache off. Here tabs are hidden, frozen and left as a person's are.
 */
export async function startChromium(owner: Owner, options: ChromiumOptions = {}): Promise<Chromium> {
  const profile = await mkdtemp(join(tmpdir(), "presence-chromium-"));
  const [program, ...before] = [...(options.within ?? []), CHROMIUM];
  const child = spawn(
    program,
    [
      ...before,
      "--headless=new",
      "--remote-debugging-pipe",
      `--user-data-dir=${profile}`,
      ...["no-sandbox", "disable-gpu", "disable-quic", "no-first-run"].map((flag) => `--${flag}`),
      ...["background-networking", "component-update", "sync"].map((what) => `--disable-${what}`),
      ...(options.flags ?? []),
      "about:blank",
    ],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true },
  );
  const browser = new Chromium(child);
  owner.after(async () => {
    await browser.kill();
    await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  });
  return browser;
}

/** A running Chromium. */
export class Chromium {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #calls = new Map<number, Call>();
  #last = 0;
  #ended = false;
  #buffer = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      for (const end of ["exit", "error"]) child.once(end, () => resolve());
    });
    void this.#exited.then(() => {
      this.#ended = true;
      for (const { reject } of this.#calls.values()) reject(new Error("Chromium has ended"));
    });
    (child.stdio[3] as Writable).on("error", () => {});
    (child.stdio[4] as Readable).setEncoding("utf8").on("data", (text: string) => {
      const messages = (this.#buffer + text).split("\0");
      this.#buffer = messages.pop() ?? "";
      for (const message of messages) this.#receive(JSON.parse(message));
    });
  }

  /** Calls a method of the protocol: of a tab's session, or of the browser. */
  async send<T = any>(method: string, params: Params = {}, sessionId?: string): Promise<T> {
    if (this.#ended) throw new Error("Chromium has ended");
    const id = ++this.#last;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#calls.set(id, { resolve, reject });
        timer = setTimeout(() => reject(new Error(`${method}: no answer`)), ANSWER_MS);
        const message = JSON.stringify({ id, method, params, sessionId });
        (this.#child.stdio[3] as Writable).write(message + "\0");
      });
    } finally {
      clearTimeout(timer);
      this.#calls.delete(id);
    }
  }

  /** A profile of its own: storage, locks and windows. It is gone when the owner ends. */
  async profile(owner: Owner): Promise<Profile> {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    owner.after(async () => {
      await this.send("Target.disposeBrowserContext", { browserContextId }).catch(() => {});
    });
    return new Profile(this, browserContextId);
  }

  /** Kills the processes that run pages, as a crash does. The browser lives on. */
  async killRenderers(): Promise<void> {
    const { processInfo } = await this.send("SystemInfo.getProcessInfo");
    for (const { type, id } of processInfo) if (type === "renderer") process.kill(id, "SIGKILL");
  }

  /** Stops all processes, as a sleeping machine does. */
  pause(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** Kills all processes. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.#exited;
  }

  #signal(signal: NodeJS.Signals): void {
    try {
      if (this.#child.pid) process.kill(-this.#child.pid, signal);
    } catch {
      // It has ended.
    }
  }

  #receive(message: { id?: number; result?: unknown; error?: { message: string } }): void {
    const call = this.#calls.get(message.id ?? 0);
    if (message.error) call?.reject(new Error(message.error.message));
    else call?.resolve(message.result);
  }
}

/** What one person has of a browser. */
export class Profile {
  readonly #browser: Chromium;
  readonly #id: string;

  constructor(browser: Chromium, id: string) {
    this.#browser = browser;
    this.#id = id;
  }

  /** Opens a tab in front of the others. */
  async open(url: string): Promise<Tab> {
    const target = { url: "about:blank", browserContextId: this.#id };
    const { targetId } = await this.#browser.send("Target.createTarget", target);
    const tab = await this.attach(targetId);
    await tab.front();
    await tab.go(url);
    return tab;
  }

  /** The tab of an ID, which a page may have opened. */
  async attach(targetId: string): Promise<Tab> {
    const target = { targetId, flatten: true };
    const { sessionId } = await this.#browser.send("Target.attachToTarget", target);
    const tab = new Tab(this.#browser, targetId, sessionId);
    await tab.send("Page.enable");
    return tab;
  }

  /** The IDs of all tabs. */
  async tabs(): Promise<string[]> {
    const { targetInfos } = await this.#browser.send("Target.getTargets");
    const mine = targetInfos.filter((t: any) => t.browserContextId === this.#id && t.type === "page");
    return mine.map((t: any) => t.targetId);
  }
}

/** A tab. */
export class Tab {
  readonly targetId: string;
  readonly #browser: Chromium;
  readonly #sessionId: string;

  constructor(browser: Chromium, targetId: string, sessionId: string) {
    this.#browser = browser;
    this.targetId = targetId;
    this.#sessionId = sessionId;
  }

  send<T = any>(method: string, params: Params = {}): Promise<T> {
    return this.#browser.send<T>(method, params, this.#sessionId);
  }

  /** What an expression in the page gives, once its promise is settled. */
  async eval<T = any>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (!exceptionDetails) return result.value;
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }

  /** Brings the tab to the front: others of the window are hidden then. */
  async front(): Promise<void> {
    await this.#browser.send("Target.activateTarget", { targetId: this.targetId });
  }

  async go(url: string): Promise<void> {
    const { errorText } = await this.send("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
  }

  async reload(): Promise<void> {
    await this.send("Page.reload");
  }

  /** Goes back in the tab's history. */
  async back(): Promise<void> {
    const { entries, currentIndex } = await this.send("Page.getNavigationHistory");
    await this.send("Page.navigateToHistoryEntry", { entryId: entries[currentIndex - 1].id });
  }

  /** Freezes the page, as Chromium does to hidden tabs to save power. */
  async freeze(): Promise<void> {
    await this.send("Page.setWebLifecycleState", { state: "frozen" });
  }

  async thaw(): Promise<void> {
    await this.send("Page.setWebLifecycleState", { state: "active" });
  }

  async close(): Promise<void> {
    await this.#browser.send("Target.closeTarget", { targetId: this.targetId });
  }
}
