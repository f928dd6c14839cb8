import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** What starts and stops things for a test: its TestContext, or `{ after }` of node:test. */
export interface Owner {
  after(end: () => void | Promise<void>): void;
}

/** Bounds every wait of the kit, in ms. It is long because many tests share few cores. */
export const waitFor = 30_000;

/** Waits until a condition holds, and returns its value. It fails after `within` ms. */
export async function eventually<T>(
  what: string,
  condition: () => T | Promise<T>,
  within = waitFor,
): Promise<NonNullable<T>> {
  for (const deadline = Date.now() + within; ; await sleep(10)) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what}: not within ${within} ms`);
    }
  }
}

/** A child process of the test. It is killed when its owner ends; without one, whoever made it does that. */
export class Process {
  stdout = "";
  stderr = "";
  /** Resolves when the process has ended, with its exit code or the name of the signal. */
  readonly exited: Promise<number | string>;
  private readonly child: ChildProcess;
  private running = true;

  constructor(
    owner: Owner | undefined,
    readonly program: string,
    readonly args: string[],
    env: Record<string, string | undefined> = process.env,
  ) {
    this.child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.on("data", (text: Buffer) => (this.stdout += text.toString()));
    this.child.stderr?.on("data", (text: Buffer) => (this.stderr += text.toString()));
    this.exited = new Promise((resolve) => {
      const end = (how: number | string): void => {
        this.running = false;
        resolve(how);
      };
      this.child.on("exit", (code, signal) => end(code ?? signal ?? "nothing"));
      this.child.on("error", (error) => end(error.message));
    });
    owner?.after(async () => {
      await this.kill();
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Waits until stdout has text that matches. It fails if the process ends before. */
  async says(text: RegExp): Promise<RegExpExecArray> {
    return eventually(`${this.program} to say ${text}`, () => {
      const found = text.exec(this.stdout);
      if (!found && !this.running) {
        throw new Error(`${this.program} ended before it said ${text}:\n${this.stderr}`);
      }
      return found;
    });
  }

  /** Sends a signal. It does nothing if the process has ended. */
  signal(name: NodeJS.Signals): void {
    if (this.running) {
      this.child.kill(name);
    }
  }

  /** Makes it stand still by SIGSTOP, and waits until it does. SIGCONT lets it go on. */
  async pause(): Promise<void> {
    this.signal("SIGSTOP");
    // A signal takes effect a moment after it was sent. The state is behind the name, in brackets.
    const stat = `/proc/${this.pid}/stat`;
    await eventually(`${this.program} to stand still`, () => !existsSync(stat) || /\) T /.test(readFileSync(stat, "utf8")));
  }

  /** Ends the process with SIGKILL, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.exited;
  }

  /** Ends the process with SIGTERM, and waits until it is gone. It fails unless the exit code is 0. */
  async stop(): Promise<void> {
    this.signal("SIGTERM");
    const how = await this.exited;
    if (how !== 0) {
      throw new Error(`${this.program} ended with ${how}:\n${this.stderr}`);
    }
  }
}
