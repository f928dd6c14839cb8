// A real network: two hosts with a cable between them, in network namespaces.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../kit/process.js";
import { makeNetwork, type Network } from "../kit/network.js";
import type { Tab } from "./kit/chromium.js";
import type { Observer } from "./kit/observer.js";
import { enter, live, startStage } from "./kit/stage.js";

interface Apart {
  network: Network;
  tab: Tab;
  seen: Observer;
}

/** A page that is logged in over the cable. It skips the test where there can be no network. */
async function login(t: TestContext): Promise<Apart | undefined> {
  const network = makeNetwork(t);
  if ("cannot" in network) {
    t.skip(network.cannot);
    return undefined;
  }
  const stage = await startStage(t, { within: network.within });
  await network.beside(Number(new URL(stage.site.url).port));
  const { login, seen, proxy } = await enter(t, stage);
  const servers = `ws://${await network.serve(Number(new URL(proxy.url).port))}`;
  return { network, seen, tab: await login({ servers }) };
}

describe("a real network", { concurrency: 3 }, () => {
  test("a page whose address changes is not noticed", async (t) => {
    const apart = await login(t);
    if (!apart) return;
    const { network, tab, seen } = apart;
    network.changeAddress();
    await eventually("the loss", () => tab.eval("!presence.state.live"));
    await live(tab);
    await tab.eval(`session.setStatus("elsewhere")`);
    await sleep(20_000); // the broker closes the earlier connection, and the grace is over
    assert.deepEqual(seen.causes, ["login", "set"]);
  });

  test("a page whose network is cut is lost, and comes back", async (t) => {
    const apart = await login(t);
    if (!apart) return;
    const { network, tab, seen } = apart;
    network.cut();
    await seen.saw("login", "lost");
    assert.equal(await tab.eval("presence.state.live"), false);
    network.mend();
    await seen.saw("login", "lost", "login");
    await live(tab);
  });

  test("a machine without a network is off line, and reaches its own broker", async (t) => {
    const network = makeNetwork(t);
    if ("cannot" in network) return t.skip(network.cannot);
    const stage = await startStage(t, { within: network.within });
    const { login, seen, proxy } = await enter(t, stage);
    for (const url of [stage.site.url, proxy.url]) await network.beside(Number(new URL(url).port));
    const tab = await login();
    const [program = "", ...before] = network.within;
    execFileSync(program, [...before, "ip", "link", "set", "cable", "down"]);
    await eventually("the browser to be off line", () => tab.eval("!navigator.onLine"));
    await live(tab);
    await live(await login()); // a page that begins off line
    assert.deepEqual(seen.causes, ["login"]);
  });
});
