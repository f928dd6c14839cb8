// The dashboard, as presenced serves it, in a real browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startChromium } from "../kit/chromium.js";
import { packageDir } from "../kit/commands.js";
import { startPresenced } from "../kit/presenced.js";

/** What the page waits for is there after a sample, so within 5 s; this is for a busy machine. In ms. */
const timeout = 30_000;

interface Axe {
  run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }>;
}

void test("the dashboard shows the service, to eyes, keyboard and screen reader", async (t) => {
  const [service, browser] = await Promise.all([startPresenced(t), startChromium(t)]);
  for (const [colorScheme, width] of [["light", 1280], ["dark", 360]] as const) {
    const context = await browser.browser.newContext({ colorScheme, viewport: { width, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(timeout);
    const problems: string[] = [];
    page.on("console", (message) => problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(`${service.http}/`); // it leads to the dashboard

    await page.getByText("Ready", { exact: true }).waitFor();
    await page.getByRole("rowheader", { name: "(this one)" }).waitFor();
    await page.getByRole("table", { name: "Users" }).getByRole("row", { name: "Online 0 0 0" }).waitFor();
    const chart = page.getByRole("img", { name: /^Users, by status, chart of the last hour\. Now Online: 0/ });
    await chart.focus();
    await page.keyboard.press("ArrowLeft");
    await page.getByRole("region", { name: "Users, by status" }).getByText(/^\d\d:\d\d:\d\d: Online/).waitFor({ state: "attached" });

    const overhang = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overhang, 0, `${width} pixels wide: the page scrolls sideways`);
    assert.deepEqual(problems, [], "the page has errors, or breaks its own content security policy");

    // axe needs eval in the page, by the protocol, which no policy bars.
    await page.evaluate(readFileSync(join(packageDir, "node_modules/axe-core/axe.min.js"), "utf8"));
    const found = await page.evaluate(async () => {
      const { violations } = await (globalThis as unknown as { axe: Axe }).axe.run();
      return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`);
    });
    assert.deepEqual(found, [], `axe, ${colorScheme}`);

    // A page that nobody sees holds no connection: a browser has six for all pages of presenced.
    const isStream = (r: { url(): string }): boolean => r.url().endsWith("/dashboard/events");
    const hide = (hidden: boolean): Promise<void> => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await Promise.all([page.waitForEvent("requestfailed", isStream), hide(true)]);
    const [again] = await Promise.all([page.waitForRequest(isStream), hide(false)]);
    assert.equal((await again.response())?.status(), 200, "the stream of a page that is seen again");

    if (colorScheme === "dark") {
      // A page whose service is gone says so, and comes back with it.
      await service.kill();
      await page.getByText("presenced does not answer").waitFor();
      await service.start();
      await page.getByText("Ready", { exact: true }).waitFor();
    }
    await context.close();
  }
});
