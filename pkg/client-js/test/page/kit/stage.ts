import { startPresenced, type Presenced } from "../../kit/presenced.js";
import { eventually, type Owner } from "../../kit/process.js";
import { bundle, startSite, type Served, type Site } from "../../kit/site.js";
import { startChromium, type Chromium, type ChromiumOptions, type Profile, type Tab } from "./chromium.js";
import { observe, type Observer } from "./observer.js";
import { startProxy, type Proxy } from "./proxy.js";

/** A service, a browser and a site with the test page, which the tests of a file share. */
export interface Stage {
  service: Presenced;
  browser: Chromium;
  site: Site;
}

export async function startStage(owner: Owner, options: ChromiumOptions = {}): Promise<Stage> {
  const script = await bundle(`import { run } from "./page/kit/app.js"; run();`);
  // Another page of the same site, which does nothing.
  const files: Record<string, string | Served> = { "/app.js": script, "/other.html": "<!doctype html>" };
  const site = await startSite(owner, files);
  const [service, browser] = await Promise.all([
    startPresenced(owner, { origins: [site.origin] }),
    startChromium(owner, options),
  ]);
  return { service, browser, site };
}

let users = 0;

/** A user, with a profile in the browser and a network of the user's own. */
export async function enter(owner: Owner, stage: Stage): Promise<Scene> {
  const user = `user${++users}`;
  const [profile, proxy, seen] = await Promise.all([
    stage.browser.profile(owner),
    startProxy(owner, stage.service.webSocket),
    observe(owner, { servers: stage.service.nats }, user),
  ]);
  return new Scene(stage, user, profile, proxy, seen);
}

export class Scene {
  readonly stage: Stage;
  readonly user: string;
  readonly profile: Profile;
  /** Between the user's browser and the service. */
  readonly proxy: Proxy;
  /** What others see of the user. */
  readonly seen: Observer;

  constructor(stage: Stage, user: string, profile: Profile, proxy: Proxy, seen: Observer) {
    this.stage = stage;
    this.user = user;
    this.profile = profile;
    this.proxy = proxy;
    this.seen = seen;
  }

  /** The address of another page of the site. */
  get other(): string {
    return this.stage.site.url + "other.html";
  }

  /** Opens a page that logs the user in, and waits for that. app.ts has the parameters. */
  readonly login = async (more: Record<string, string> = {}): Promise<Tab> => {
    const asked = new URLSearchParams({ servers: this.proxy.url, user: this.user, ...more }).toString();
    const tab = await this.profile.open(`${this.stage.site.url}?${asked}`);
    await loggedIn(tab);
    return tab;
  };
}

/** Waits until the page in a tab has logged in. */
export async function loggedIn(tab: Tab): Promise<void> {
  // While a page is loaded its script is not there yet, or that of the page before still is.
  await eventually("a login", () => tab.eval("globalThis.started?.then(() => true)").catch(() => false));
}

/** Reloads a page, and waits until it has logged in again. */
export async function reload(tab: Tab): Promise<void> {
  await tab.eval("globalThis.started = undefined");
  await tab.reload();
  await loggedIn(tab);
}

/** Waits until the page's state is live. */
export async function live(tab: Tab): Promise<void> {
  await eventually("a live page", () => tab.eval("globalThis.presence?.state.live"));
}
