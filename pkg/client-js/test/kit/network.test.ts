import assert from "node:assert/strict";
import { test } from "node:test";
import { execFile } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import { promisify } from "node:util";
import { makeNetwork } from "./network.js";

test("two hosts reach each other, until the cable is cut or the address changes", async (t) => {
  const network = makeNetwork(t);
  if ("cannot" in network) {
    t.skip(network.cannot);
    return;
  }
  const here = createServer((socket) => socket.end("hello " + "x".repeat(100_000)));
  await new Promise<void>((resolve) => here.listen(0, "127.0.0.1", resolve));
  t.after(() => here.close());
  const { port } = here.address() as AddressInfo;
  const [host] = (await network.serve(port)).split(":");
  await network.beside(port);

  const read = `require("node:net").connect(Number(process.argv[2]), process.argv[1]).setTimeout(1000, function () { process.exit(3) })
    .on("error", () => process.exit(4)).on("data", (text) => { console.log(String(text).slice(0, 5)); process.exit() })`;
  const [first = "", ...rest] = network.within;
  const ask = (at: string | undefined): Promise<string> =>
    promisify(execFile)(first, [...rest, process.execPath, "-e", read, at ?? "", String(port)]).then(
      ({ stdout }) => stdout.trim(),
      (error: { code: number }) => `exit ${error.code}`,
    );
  assert.equal(await ask(host), "hello");
  assert.equal(await ask("127.0.0.1"), "hello");
  network.cut();
  assert.equal(await ask(host), "exit 3", "a silent network");
  assert.equal(await ask("127.0.0.1"), "hello", "past the cable");
  network.changeAddress();
  network.mend();
  assert.equal(await ask(host), "hello", "by another address");
});
