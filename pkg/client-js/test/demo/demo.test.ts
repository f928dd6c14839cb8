// The demo page, as presenced serves it (npm run demo has to be current), in real browsers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import type { BrowserContext, Locator, Page } from "playwright-core";
import { startChromium } from "../kit/chromium.js";
import { packageDir } from "../kit/commands.js";
import { type Presenced, startPresenced } from "../kit/presenced.js";
import { eventually } from "../kit/process.js";

/** What the page waits for is there at once; this is for a busy machine. In ms. */
const timeout = 15_000;

/** The page in a tab, as a person uses it: by what is written and said, not by IDs. */
class Demo {
  constructor(readonly page: Page) {}

  static async open(context: BrowserContext, service: Presenced, as?: string): Promise<Demo> {
    const page = await context.newPage();
    page.setDefaultTimeout(timeout);
    await page.goto(`${service.http}/demo/${as === undefined ? "" : "?as=" + encodeURIComponent(as)}`);
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

// One service and one browser for all tests: each has a profile and users of its own.
const owner = { after };
const [service, browser] = await Promise.all([startPresenced(owner, { args: ["--demo", "--grace", "1s"] }), startChromium(owner)]);

test("two people in two browsers see each other; one whose browser is killed is offline after the grace", async (t) => {
  const [there, here] = await Promise.all([startChromium(t), browser.browser.newContext()]);
  const alice = await Demo.open(here, service);
  await alice.page.getByLabel("Your name").fill("alice");
  await alice.page.keyboard.press("Enter");
  await alice.heading("alice").waitFor();
  await alice.sees("alice", "Online");
  await alice.sees("bob", "Signed out");

  const bob = await Demo.open(there.context, service, "bob");
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
  await alice.sees("bob", "last seen");
  await here.close();
});

test("a tab that is reloaded stays signed in, and nobody sees it go", async () => {
  const context = await browser.browser.newContext();
  const carol = await Demo.open(context, service, "carol");
  const dan = await Demo.open(context, service, "dan");
  await carol.sees("dan", "Online");
  const before = await dan.devices().first().textContent();
  await dan.page.reload();
  await dan.heading("dan").waitFor();
  await dan.devices().getByText("this tab").waitFor();
  assert.equal(await dan.devices().count(), 1, "the same session");
  assert.equal(await dan.devices().first().textContent(), before);
  await carol.sees("dan", "Online");
  assert.equal(await carol.page.getByRole("log").getByText("dan is offline").count(), 0);
  await context.close();
});

test("own devices are seen, and signed out everywhere", async () => {
  const context = await browser.browser.newContext();
  const first = await Demo.open(context, service, "erin");
  const second = await Demo.open(context, service, "erin");
  await eventually("both tabs to be seen", async () => (await first.devices().count()) === 2);
  await first.page.getByText("Invisible", { exact: true }).click();
  assert.ok(await eventually("it to be set on the other device", () => second.page.getByLabel("Invisible").isChecked()));
  await second.sees("erin", "Offline"); // as others see her
  await second.page.getByText("Available", { exact: true }).click();
  await first.button("Sign out everywhere").click();
  await second.page.getByText("You have signed out on all devices.").waitFor();
  await first.heading("Who are you?").waitFor();
  await first.sees("erin", "Signed out");
  // By hand it is signed in again.
  await second.page.getByLabel("Your name").fill("erin");
  await second.button("Sign in").click();
  await first.sees("erin", "Online");
  await context.close();
});

test("while presenced is away nobody's status is known, and nobody goes offline by that", async () => {
  const context = await browser.browser.newContext();
  const frank = await Demo.open(context, service, "frank");
  await Demo.open(context, service, "grace");
  await frank.sees("grace", "Online");
  await frank.connection().getByText("Live").waitFor();
  await service.kill();
  await frank.page.getByText("Is presenced running?").waitFor();
  await frank.sees("grace", "Unknown");
  await frank.page.getByLabel("What you are up to").fill("still there");
  await service.start();
  await frank.connection().getByText("Live").waitFor();
  await frank.sees("grace", "Online");
  await frank.told("connected again");
  assert.equal(await frank.page.getByRole("log").getByText("is offline").count(), 0);
  await frank.button("Set").click();
  await frank.sees("frank", "still there");
  await context.close();
});

test("what cannot be done is said in words, and changes nothing", async () => {
  const context = await browser.browser.newContext();
  const heidi = await Demo.open(context, service);
  await heidi.page.getByLabel("Your name").fill("ä".repeat(100)); // 200 bytes
  await heidi.button("Sign in").click();
  await heidi.page.getByRole("alert").getByText("A name has 1 to 128 bytes").waitFor();
  await heidi.page.getByLabel("Your name").fill("heidi");
  await heidi.button("Sign in").click();
  await heidi.page.getByLabel("What you are up to").fill("ä".repeat(300));
  await heidi.button("Set").click();
  await heidi.page.getByRole("alert").getByText("That text is too long.").waitFor();
  const watch = heidi.page.getByLabel("Watch somebody");
  await watch.fill("ä".repeat(100));
  await watch.press("Enter");
  await heidi.page.getByRole("alert").getByText("A name has 1 to 128 bytes").last().waitFor();
  assert.equal(await heidi.page.getByRole("list", { name: "People" }).getByRole("listitem").count(), 4);
  await watch.fill("dave");
  await watch.press("Enter");
  await heidi.sees("dave", "Signed out");
  await heidi.button("Stop watching dave").click();
  assert.ok(await eventually("dave to be gone", async () => (await heidi.person("dave").count()) === 0));
  await context.close();
});

test("it is for everybody: phone width, keyboard, screen readers, light and dark", async () => {
  const context = await browser.browser.newContext();
  await Demo.open(context, service, "ivan");
  const judy = await Demo.open(context, service);
  const problems: string[] = [];
  judy.page.on("console", (message) => problems.push(message.text()));
  judy.page.on("pageerror", (error) => problems.push(error.message));

  const check = async (what: string): Promise<void> => {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [1280, 390]) {
        await judy.page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await judy.page.setViewportSize({ width, height: 900 });
        const wide = await judy.page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${what}: ${wide} pixels wide on a screen of ${width}`);
        problems.push(...(await violations(judy.page)).map((rule) => `${what}, ${colorScheme}, ${width}: ${rule}`));
      }
    }
  };
  await check("signed out");

  // The name has the focus at first; all else is reached by the keyboard alone.
  await judy.page.keyboard.type("judy");
  await judy.page.keyboard.press("Enter");
  await judy.heading("judy").waitFor();
  await judy.page.keyboard.type("in a meeting");
  await judy.page.keyboard.press("Enter");
  await judy.sees("judy", "in a meeting");
  await judy.page.keyboard.press("Shift+Tab");
  await judy.page.keyboard.press("ArrowRight");
  await judy.sees("judy", "Away");
  await check("signed in");
  assert.deepEqual(problems, []);
  await context.close();
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
