import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command } from "./commands.js";
import { eventually, Process, type Owner } from "./process.js";

export interface PresencedOptions {
  /** More flags of presenced, such as ["--grace", "1s"]. */
  args?: string[];
  /** More variables of its environment. */
  env?: Record<string, string>;
  /** Origins of the web pages that may connect, such as "http://127.0.0.1:5173". */
  origins?: string[];
  /** A file for --nats-config (users.ts writes one). It says all of addresses, data and origins. */
  config?: string;
}

/**
 * Starts a presenced with a NATS server inside, on free ports of loopback, with data of its own.
 * It resolves when the service is ready. All is gone when the owner ends.
 *
 *     const service = await startPresenced(t);
 *     const nc = await connect({ servers: service.nats });
 */
export async function startPresenced(owner: Owner, options: PresencedOptions = {}): Promise<Presenced> {
  const data = await mkdtemp(join(tmpdir(), "presence-js-"));
  const service = new Presenced(await command("presenced"), data, options);
  owner.after(async () => {
    await service.kill();
    await rm(data, { recursive: true, force: true });
  });
  await service.start();
  return service;
}

/** A running presenced. */
export class Presenced {
  /** Where clients connect: nats://127.0.0.1:…, the same after a restart. */
  nats = "";
  /** Where those over WebSocket connect: ws://127.0.0.1:…, or wss:// with TLS. */
  webSocket = "";
  /** Health and metrics: http://127.0.0.1:… */
  http = "";

  private run: Process | undefined;

  constructor(
    private readonly program: string,
    readonly data: string,
    private readonly options: PresencedOptions,
  ) {}

  /** The process, of its last start. */
  get process(): Process {
    if (!this.run) {
      throw new Error("presenced was not started");
    }
    return this.run;
  }

  /** Starts it after stop or kill: on the same ports and data. It resolves when it is ready. */
  async start(): Promise<void> {
    await eventually("presenced to start", async () => {
      // The owner of the service ends it. A test that starts it anew may end before its owner does.
      this.run = new Process(undefined, this.program, this.flags(), this.environment());
      try {
        const ready = await this.run.says(/is ready on (\S+)\nOver WebSocket: (wss?:[^\s,]+)/);
        this.nats = ready[1] ?? "";
        this.webSocket = ready[2] ?? "";
        this.http = /ready=(http:\S+)\/readyz/.exec(this.run.stderr)?.[1] ?? "";
        return true;
      } catch (error) {
        // Somebody may have been given a port of the earlier run meanwhile, for a moment.
        if (this.nats !== "" && this.run.stderr.includes("in use")) {
          return false;
        }
        throw error;
      }
    });
  }

  /** Stops it as an operator does, by SIGTERM. Clients' connections are closed. */
  async stop(): Promise<void> {
    await this.process.stop();
  }

  /** Kills it with SIGKILL, as a power loss would. */
  async kill(): Promise<void> {
    await this.run?.kill();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Makes it stand still, by SIGSTOP: connections stay open, and nothing answers. */
  async pause(): Promise<void> {
    await this.process.pause();
  }

  /** Lets it go on after pause. */
  resume(): void {
    this.process.signal("SIGCONT");
  }

  private flags(): string[] {
    const at = (url: string): string => (url === "" ? "127.0.0.1:0" : new URL(url).host);
    const more = ["--http", at(this.http), ...(this.options.args ?? [])];
    if (this.options.config) {
      return ["--nats-config", this.options.config, ...more];
    }
    const origins = (this.options.origins ?? []).flatMap((origin) => ["--origin", origin]);
    const own = ["--data", this.data, "--listen", at(this.nats), "--websocket", at(this.webSocket)];
    return [...own, ...origins, ...more];
  }

  /** That of the test, but nothing in it configures presenced. Nobody sends too much, as in Go's tests. */
  private environment(): Record<string, string | undefined> {
    const own = Object.entries(process.env).filter(([name]) => !/^(PRESENCED_|NOTIFY_SOCKET$)/.test(name));
    return { ...Object.fromEntries(own), PRESENCED_USER_CHANGES: "-1", ...this.options.env };
  }
}
