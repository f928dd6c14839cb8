import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../../kit/process.js";
import type { Tab } from "./chromium.js";

/** Waits until a counter in the page, which should count ten times a second, stands still for 5 s. */
export async function throttled(tab: Tab, within = 60_000): Promise<void> {
  const standsStill = async (): Promise<boolean> => {
    const before = await tab.eval<number>("counter.n");
    await sleep(5_000);
    return (await tab.eval("counter.n")) === before;
  };
  await eventually("the page's timers to stand still", standsStill, within);
}
