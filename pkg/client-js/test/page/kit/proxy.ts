import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { Owner } from "../../kit/process.js";

/** Starts a network in front of a ws:// address. */
export async function startProxy(owner: Owner, target: string): Promise<Proxy> {
  const { hostname, port } = new URL(target);
  const proxy = new Proxy(hostname, Number(port));
  await proxy.listen();
  owner.after(() => proxy.close());
  return proxy;
}

/** A network between a page and its broker, which can be slow, and forget its connections. */
export class Proxy {
  /** Where it listens. */
  url = "";
  /** How many connections were made through it. */
  connections = 0;
  /** How long everything takes on its way, in ms. */
  delay = 0;
  readonly #server = createServer((client) => this.#accept(client));
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  readonly #forgotten = new WeakSet<Socket>();

  constructor(host: string, port: number) {
    this.#target = { host, port };
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Forgets the connections there are, as a NAT does: nothing comes through, and nothing fails. */
  forget(): void {
    for (const socket of this.#sockets) {
      this.#forgotten.add(socket);
      socket.pause();
    }
  }

  /** Breaks the connections there are. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }

  #accept(client: Socket): void {
    this.connections++;
    const server = connect(this.#target);
    this.#forward(client, server);
    this.#forward(server, client);
  }

  #forward(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.setNoDelay();
    from.on("error", () => {});
    from.on("data", (bytes) => {
      if (this.delay) setTimeout(() => to.write(bytes), this.delay);
      else to.write(bytes);
    });
    from.on("close", () => {
      this.#sockets.delete(from);
      if (!this.#forgotten.has(from)) to.destroy();
    });
  }
}
