// What the tests of the faces share: a service, a Presence in Node, and pages in Chromium.
import { connect } from "@nats-io/transport-node";
import type { Page } from "playwright-core";
import { Presence } from "../src/index.js";
import type { Session } from "../src/index.js";
import { startChromium } from "./kit/chromium.js";
import type { Chromium } from "./kit/chromium.js";
import { startPresenced } from "./kit/presenced.js";
import type { Presenced } from "./kit/presenced.js";
import type { Owner } from "./kit/process.js";
import { bundle, startSite } from "./kit/site.js";
import type { Site } from "./kit/site.js";

/** A page, and the lines that it has sent to the broker. */
export type OpenPage = Page & { sent(line: RegExp): string[] };

const html = (script: string) =>
  `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>test</title>` +
  `<div id="root"></div><script type="module" src="${script}"></script>`;

export interface FaceOptions {
  /** Whether there is a browser. */
  pages?: boolean;
}

/** A program for a page, and what `presence-client/...` it imports are the sources. */
export interface Program {
  name: string;
  code: string;
  loader?: "ts" | "tsx";
  mode?: "development" | "production";
}

/** What a file of test/ exports becomes global in the page. */
export const file = (path: string, mode?: "production"): Program => ({
  name: path,
  ...(mode && { mode }),
  code: `import * as all from ${JSON.stringify(path)}; Object.assign(globalThis, all);`,
});

export class Face {
  readonly presence: Presence;
  readonly service: Presenced;
  readonly #site: Site;
  readonly browser: Chromium | undefined;
  readonly #name = crypto.randomUUID().slice(0, 8);
  #users = 0;

  private constructor(site: Site, service: Presenced, browser: Chromium | undefined) {
    this.#site = site;
    this.service = service;
    this.browser = browser;
    this.presence = new Presence({ connect, options: { servers: service.nats } });
  }

  /** All is closed when the owner ends. */
  static async start(owner: Owner, { pages = false }: FaceOptions = {}): Promise<Face> {
    let face: Face | undefined;
    owner.after(() => face?.presence.close()); // before the service is gone
    const site = await startSite(owner, {});
    const args = ["--friend-notifications"];
    const service = await startPresenced(owner, { origins: [site.origin], args });
    const browser = pages ? await startChromium(owner) : undefined;
    return (face = new Face(site, service, browser));
  }

  /** A user ID that nobody else uses. */
  user(name: string): string {
    return `${name}-${this.#name}-${++this.#users}`;
  }

  /** Logs a user in from Node. */
  login(userID: string): Promise<Session> {
    return this.presence.login(userID);
  }

  /**
   * Opens a page that runs a program, with an element "root" in it. What the page throws fails
   * the test's process; what it logs is told to `say`.
   */
  async openPage({ name, code, loader, mode }: Program, say = (_line: string) => {}): Promise<OpenPage> {
    const { files, origin } = this.#site;
    const path = "/" + name.replaceAll(/\W+/g, "-");
    if (!files.has(path)) {
      files.set(`${path}.js`, { body: await bundle(code, loader, mode) });
      files.set(path, { body: html(`${path}.js`) });
    }
    const page = await this.browser!.context.newPage();
    page.on("pageerror", (error) => {
      throw error;
    });
    page.on("console", (message) => say(message.text()));
    const frames: string[] = [];
    page.on("websocket", (socket) =>
      socket.on("framesent", ({ payload }) => frames.push(...String(payload).split("\r\n"))),
    );
    await page.goto(origin + path);
    return Object.assign(page, { sent: (line: RegExp) => frames.filter((frame) => line.test(frame)) });
  }
}
