import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Process, type Owner } from "./process.js";

const server = "192.0.2.1"; // of the range for documentation: RFC 5737
const clients = ["192.0.2.2", "192.0.2.3"];

/** A MAC address that nobody has. */
const nobody = "02:00:00:00:00:99";

/** What listens in a namespace, and leads to a socket of the file system, which all namespaces share. */
const forwarder = `
const net = require("node:net");
const [host, port, path] = process.argv.slice(1);
net.createServer((from) => {
  const to = net.connect(path);
  for (const [a, b] of [[from, to], [to, from]]) {
    a.on("error", () => b.destroy()).on("close", () => b.destroy());
    a.pipe(b);
  }
}).listen(Number(port), host, () => console.log("listening"));
`;

/**
 * Makes two hosts of the test's own, in network namespaces with a cable between them: a client
 * and a server. It returns why that cannot be done where it cannot: only root may. Both are gone
 * when the owner ends.
 */
export function makeNetwork(owner: Owner): Network | { cannot: string } {
  const id = `${process.pid}-${(made += 1)}`;
  const names = { client: `presence-c${id}`, server: `presence-s${id}` };
  try {
    for (const name of Object.values(names)) {
      ip("netns", "add", name);
      owner.after(() => ip("netns", "del", name));
      ip("-n", name, "link", "set", "lo", "up");
    }
    ip("-n", names.client, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names.server);
    for (const [name, address] of [[names.client, clients[0]], [names.server, server]] as const) {
      ip("-n", name, "addr", "add", `${address}/24`, "dev", "cable");
      ip("-n", name, "link", "set", "cable", "up");
    }
  } catch (error) {
    return { cannot: `network namespaces cannot be made here: ${String(error)}` };
  }
  return new Network(owner, names);
}

let made = 0;

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: "pipe" });
}

/** The two hosts. */
export class Network {
  private address = 0; // of the client, in clients

  constructor(
    private readonly owner: Owner,
    private readonly names: { client: string; server: string },
  ) {}

  /** What is put before a program so that it runs on the client. */
  get within(): string[] {
    return ["ip", "netns", "exec", this.names.client];
  }

  /**
   * Makes the server listen on a port, over the cable, and lead to the same port of 127.0.0.1 of
   * this machine. It returns host:port for the client.
   */
  async serve(port: number): Promise<string> {
    await this.forward(this.names.server, server, port);
    return `${server}:${port}`;
  }

  /**
   * Makes 127.0.0.1 of the client lead to the same port here, past the cable. So a page that is
   * loaded from there is in a secure context, and needs no network to reload.
   */
  async beside(port: number): Promise<void> {
    await this.forward(this.names.client, "127.0.0.1", port);
  }

  /** Loses all packets, without a word to either side: no reset, no carrier lost. */
  cut(): void {
    const to = (name: string, address: string): void =>
      ip("-n", name, "neigh", "replace", address, "lladdr", nobody, "nud", "permanent", "dev", "cable");
    to(this.names.client, server);
    for (const address of clients) {
      to(this.names.server, address);
    }
  }

  /** Ends cut. What was under way goes on where TCP still tries. */
  mend(): void {
    for (const name of Object.values(this.names)) {
      ip("-n", name, "neigh", "flush", "dev", "cable", "nud", "permanent");
    }
  }

  /** Gives the client another address, as another Wi-Fi does. Connections of the earlier one hear nothing. */
  changeAddress(): void {
    const { client } = this.names;
    ip("-n", client, "addr", "del", `${clients[this.address]}/24`, "dev", "cable");
    this.address = 1 - this.address;
    ip("-n", client, "addr", "add", `${clients[this.address]}/24`, "dev", "cable");
  }

  private async forward(name: string, host: string, port: number): Promise<void> {
    const dir = mkdtempSync(join(tmpdir(), "presence-net-"));
    const path = join(dir, "socket");
    const here = createServer((from) => {
      const to = connect(port, "127.0.0.1");
      from.on("error", () => to.destroy()).on("close", () => to.destroy());
      to.on("error", () => from.destroy()).on("close", () => from.destroy());
      from.pipe(to);
      to.pipe(from);
    });
    await new Promise<void>((resolve) => here.listen(path, resolve));
    this.owner.after(() => {
      here.close();
      rmSync(dir, { recursive: true, force: true });
    });
    const args = ["netns", "exec", name, process.execPath, "-e", forwarder, host, String(port), path];
    await new Process(this.owner, "ip", args).says(/listening/);
  }
}
