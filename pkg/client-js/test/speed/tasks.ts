import type { Browser } from "playwright-core";

/** What is read of an event of a trace. Times are in microseconds. */
interface TraceEvent {
  name: string;
  pid: number;
  tid: number;
  /** The thread's time on a processor. */
  tdur?: number;
  args?: { name?: string };
}

/**
 * Runs f, and returns how long the longest tasks of pages took meanwhile, the longest first: ms of
 * processor time. The time by the clock says more about what else the machine does.
 */
export async function longestTasks(browser: Browser, f: () => Promise<void>): Promise<number[]> {
  const cdp = await browser.newBrowserCDPSession();
  const events: TraceEvent[] = [];
  cdp.on("Tracing.dataCollected", ({ value }) => events.push(...(value as unknown as TraceEvent[])));
  await cdp.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["toplevel", "__metadata"], recordMode: "recordAsMuchAsPossible" },
  });
  await f();
  const complete = new Promise((resolve) => cdp.once("Tracing.tracingComplete", resolve));
  await cdp.send("Tracing.end");
  await complete;
  await cdp.detach();

  const thread = ({ pid, tid }: TraceEvent) => `${pid} ${tid}`;
  const pages = new Set(events.filter((e) => e.args?.name === "CrRendererMain").map(thread));
  const tasks = events.filter((e) => e.name.endsWith("RunTask") && pages.has(thread(e)) && e.tdur);
  if (tasks.length === 0) throw new Error("the trace has no task of a page");
  return tasks.map((e) => e.tdur! / 1000).sort((a, b) => b - a).slice(0, 10);
}
