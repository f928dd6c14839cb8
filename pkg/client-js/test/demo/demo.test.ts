// The demo page, as presenced serves it (npm run demo has to be current), in real browsers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Locator, Page } from "playwright-core";
import { type Chromium, startChromium } from "../kit/chromium.js";
import { packageDir } from "../kit/commands.js";
import { type Presenced, startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";

/** What the page waits for is there at once; this is for a busy machine. In ms. */
const timeout = 15_000;

/** The page in a tab, as a person uses it: by what is written and said, not by IDs. */
class Demo {
  constructor(readonly page: Page) {}

  static async open(browser: Chromium, service: Presenced, as?: string): Promise<Demo> {
    const page = await browser.open(`${service.http}/demo/${as === undefined ? "" : "?as=" + encodeURIComponent(as)}`);
    page.setDefaultTimeout(timeout);
    const demo = new Demo(page);
    if (as !== undefined) {
      await demo.heading(as).waitFor();
    }
    return demo;
  }

  heading(text: string): Locator {
    return this.page.getByRole("heading", { name: text, exact: true });
  }

  person(name: string): Locator {
    return this.page.getByRole("list", { name: "People" }).getByRole("listitem").filter({ has: this.page.getByText(name, { exact: true }) });
  }

  devices(): Locator {
    return this.page.getByRole("list", { name: "Your devices" }).getByRole("listitem");
  }

  button(name: string): Locator {
    return this.page.getByRole("button", { name, exact: true });
  }

  connection(): Locator {
    return this.page.getByRole("status");
  }

  /** Waits until a person is shown with a text. */
  async sees(name: string, text: string): Promise<void> {
    await this.person(name).getByText(text).first().waitFor();
  }

  /** Waits until the log has a line with a text. */
  async told(text: string): Promise<void> {
    await this.page.getByRole("log").getByText(text).first().waitFor();
  }
}

async function start(t: TestContext, ...args: string[]): Promise<Presenced> {
  return startPresenced(t, { args: ["--demo", ...args] });
}

test("two people in two browsers see each other; one whose browser is killed is offline after the grace", async (t) => {
  const [service, here, there] = await Promise.all([start(t, "--grace", "1s"), startChromium(t), startChromium(t)]);
  const alice = await Demo.open(here, service);
  await alice.page.getByLabel("Your name").fill("alice");
  await alice.page.keyboard.press("Enter");
  await alice.heading("alice").waitFor();
  await alice.sees("alice", "Online");
  await alice.sees("bob", "Signed out");

  const bob = await Demo.open(there, service, "bob");
  await alice.sees("bob", "Online");
  await bob.sees("alice", "Online");
  await bob.page.getByLabel("What you are up to").fill("in a meeting");
  await bob.page.getByLabel("For how long").selectOption("for an hour");
  await bob.button("Set").click();
  await bob.page.getByText("Busy", { exact: true }).click();
  await alice.sees("bob", "in a meeting");
  await alice.sees("bob", "until");
  await alice.sees("bob", "Busy");
  await alice.told("bob says: in a meeting");

  const killed = Date.now();
  await there.kill();
  await alice.sees("bob", "Offline");
  const after = Date.now() - killed;
  // G5: the grace and at most 1 s. The rest is for a busy machine; the TTL of a page is 180 s.
  assert.ok(after < 10_000, `offline after ${after} ms`);
  await alice.sees("bob", "last seen just now");
});

test("a tab that is reloaded stays signed in, and nobody sees it go", async (t) => {
  const [service, browser] = await Promise.all([start(t), startChromium(t)]);
  const bob = await Demo.open(browser, service, "bob");
  const alice = await Demo.open(browser, service, "alice");
  await bob.told("alice is online");
  const before = await alice.devices().first().textContent();
  await alice.page.reload();
  await alice.heading("alice").waitFor();
  await alice.devices().getByText("this tab").waitFor();
  assert.equal(await alice.devices().count(), 1, "the same session");
  assert.equal(await alice.devices().first().textContent(), before);
  await bob.sees("alice", "Online");
  assert.equal(await bob.page.getByRole("log").getByText("alice is offline").count(), 0);
});

test("own devices are seen, and signed out everywhere", async (t) => {
  const [service, browser] = await Promise.all([start(t), startChromium(t)]);
  const first = await Demo.open(browser, service, "alice");
  const second = await Demo.open(browser, service, "alice");
  await eventually("both tabs to be seen", async () => (await first.devices().count()) === 2);
  await first.page.getByText("Invisible", { exact: true }).click();
  assert.ok(await eventually("it to be set on the other device", () => second.page.getByLabel("Invisible").isChecked()));
  await second.sees("alice", "Offline"); // as others see her
  await second.page.getByText("Available", { exact: true }).click();
  await first.button("Sign out everywhere").click();
  await second.page.getByText("You have signed out on all devices.").waitFor();
  await first.heading("Who are you?").waitFor();
  await first.sees("alice", "Signed out");
  // By hand it is signed in again.
  await second.button("alice").click();
  await first.sees("alice", "Online");
});

test("while presenced is away nobody's status is known, and nobody goes offline by that", async (t) => {
  const [service, browser] = await Promise.all([start(t), startChromium(t)]);
  const alice = await Demo.open(browser, service, "alice");
  await Demo.open(browser, service, "bob");
  await alice.sees("bob", "Online");
  await alice.connection().getByText("Live").waitFor();
  await service.kill();
  await alice.page.getByText("Is presenced running?").waitFor();
  await alice.sees("bob", "Unknown");
  await alice.page.getByLabel("What you are up to").fill("still there");
  await service.start();
  await alice.connection().getByText("Live").waitFor();
  await alice.sees("bob", "Online");
  await alice.told("connected again");
  assert.equal(await alice.page.getByRole("log").getByText("is offline").count(), 0);
  await alice.button("Set").click();
  await alice.sees("alice", "still there");
});

test("what cannot be done is said in words, and changes nothing", async (t) => {
  const [service, browser] = await Promise.all([start(t), startChromium(t)]);
  const alice = await Demo.open(browser, service);
  await alice.page.getByLabel("Your name").fill("ä".repeat(100)); // 200 bytes
  await alice.button("Sign in").click();
  await alice.page.getByRole("alert").getByText("A name has 1 to 128 bytes").waitFor();
  await alice.button("alice").click();
  await alice.page.getByLabel("What you are up to").fill("ä".repeat(300));
  await alice.button("Set").click();
  await alice.page.getByRole("alert").getByText("That text is too long.").waitFor();
  const watch = alice.page.getByLabel("Watch somebody");
  await watch.fill("ä".repeat(100));
  await watch.press("Enter");
  await alice.page.getByRole("alert").getByText("A name has 1 to 128 bytes").last().waitFor();
  assert.equal(await alice.page.getByRole("list", { name: "People" }).getByRole("listitem").count(), 3);
  await watch.fill("dave");
  await watch.press("Enter");
  await alice.sees("dave", "Signed out");
  await alice.button("Stop watching dave").click();
  assert.ok(await eventually("dave to be gone", async () => (await alice.person("dave").count()) === 0));
});

test("it is for everybody: phone width, keyboard, screen readers, light and dark", async (t) => {
  const [service, browser] = await Promise.all([start(t), startChromium(t)]);
  await Demo.open(browser, service, "bob");
  const alice = await Demo.open(browser, service);
  const problems: string[] = [];
  alice.page.on("console", (message) => problems.push(message.text()));
  alice.page.on("pageerror", (error) => problems.push(error.message));

  const check = async (what: string): Promise<void> => {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [1280, 390]) {
        await alice.page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await alice.page.setViewportSize({ width, height: 900 });
        const wide = await alice.page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${what}: ${wide} pixels wide on a screen of ${width}`);
        problems.push(...(await violations(alice.page)).map((rule) => `${what}, ${colorScheme}, ${width}: ${rule}`));
      }
    }
  };
  await check("signed out");

  // The name has the focus at first; all else is reached by the keyboard alone.
  await alice.page.keyboard.type("alice");
  await alice.page.keyboard.press("Enter");
  await alice.heading("alice").waitFor();
  await alice.page.keyboard.type("in a meeting");
  await alice.page.keyboard.press("Enter");
  await alice.sees("alice", "in a meeting");
  await alice.page.keyboard.press("Shift+Tab");
  await alice.page.keyboard.press("ArrowRight");
  await alice.sees("alice", "Away");
  await check("signed in");
  assert.deepEqual(problems, []);
});

/** What axe finds: roles and labels that are missing, contrasts that are too low, and so on. */
async function violations(page: Page): Promise<string[]> {
  // By the debugger, since the page's policy lets in no script of others.
  await page.evaluate(readFileSync(join(packageDir, "node_modules/axe-core/axe.min.js"), "utf8"));
  return page.evaluate(async () => {
    type Axe = { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }> };
    const { violations } = await (globalThis as unknown as { axe: Axe }).axe.run();
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}: ${failureSummary}`));
  });
}
