import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import { PresenceError } from "./protocol/errors.js";
import { Scope } from "./scope.js";
import { backoff, Bell, jitter } from "./timing.js";
import type { Settings } from "./types.js";

/** The pauses between attempts to connect: they double from the first to the most. */
const RETRY_MS = 100;
const RETRY_MOST_MS = 5_000;
/** A connection that lasted for less counts as one more failure. */
const STEADY_MS = 5_000;
/** How long nats-core waits for a connection: it doubles with each failure, for slow networks. */
const CONNECT_MS = 5_000;
const CONNECT_MOST_MS = 20_000;
/** One attempt is given up after this, whatever `connect` does. */
const ATTEMPT_MS = 90_000;
/** The time over which the clients of a server in lame duck mode leave it. */
const LAME_DUCK_SPREAD_MS = 5_000;
/** The least time between two questions for a sign of life because answers did not come. */
const PROBE_PAUSE_MS = 1_000;
/** How long a sign of life is waited for at most, after it was waited for in vain before. */
const PROBE_MOST_MS = 60_000;

/** One connection to the broker. Its scope ends when it is lost. */
export interface Connection {
  readonly nc: NatsConnection;
  readonly scope: Scope;
  /** The names that the broker has for it, to bind sessions to it (PROTOCOL 4.1). */
  readonly identity: { serverID: string; clientID: number } | undefined;
}

/** What the link tells. */
export interface LinkEvents {
  up(connection: Connection): void;
  lost(): void;
  /** An attempt to connect has failed. */
  failed(error: PresenceError): void;
  /** The broker has told an error of its own accord. */
  error(error: Error): void;
}

/**
 * Makes one connection after the other, without limit. NATS does not reconnect by itself here:
 * each connection is a new one, so nothing of an earlier one is left.
 *
 *     connecting ──► live ──► lost ──► connecting …
 *         └── failed: again after a pause
 *
 * A connection that was lost is closed without waiting: on a dead network that can take minutes.
 */
export class Link {
  current: Connection | undefined;
  readonly #options: Settings;
  readonly #events: LinkEvents;
  readonly #life = new Scope();
  readonly #changed = new Set<() => void>();
  readonly #hurry = new Bell();
  /** Attempts under way: one, or two while a server in lame duck mode is left. */
  readonly #attempts = new Set<Scope>();
  /** The connection that is to follow the current one. */
  #next: Connection | undefined;
  /** By `suspend`: no connection is made. */
  suspended = false;
  #failure: PresenceError | undefined;
  /** Why attempts were last given up. */
  #abandoned: PresenceError | undefined;
  /** Attempts that failed since there was a connection. */
  #failures = 0;
  #doubted = -Infinity;
  #patience: number;

  constructor(options: Settings, events: LinkEvents) {
    this.#options = options;
    this.#events = events;
    this.#patience = options.probe / 2;
    queueMicrotask(() => void this.#run());
  }

  /** Waits for a connection. */
  async wait(scope: Scope): Promise<Connection> {
    while (!this.current) {
      scope.check();
      this.#life.check();
      await scope.wait(new Promise<void>((resolve) => this.#changed.add(resolve)));
    }
    return this.current;
  }

  /** Why there is no connection, as far as that is known. */
  get failure(): PresenceError | undefined {
    return this.#failure;
  }

  /** Drops the connection, and makes none until `resume`. */
  suspend(): void {
    this.suspended = true;
    if (!this.current) this.#events.lost();
    this.#abandon(notConnected("the connection is suspended"));
  }

  resume(): void {
    this.suspended = false;
    this.#hurry.ring();
  }

  /** Replaces the connection, or the attempt to make one, at once. */
  reconnect(reason: string): void {
    this.#abandon(notConnected(reason));
    this.#hurry.ring();
  }

  /** Ends the link for good. */
  close(reason: PresenceError): void {
    this.#life.end(reason);
    this.#abandon(reason);
    this.#tell();
  }

  async #run(): Promise<void> {
    for (let failures = 0; ; failures++) {
      try {
        while (this.suspended) await this.#hurry.wait(Infinity, this.#life);
        const connection = this.#next ?? (await this.#connect());
        this.#next = undefined;
        const since = performance.now();
        this.#live(connection);
        await this.#life.wait(new Promise<void>((resolve) => connection.scope.onEnd(resolve)));
        if (performance.now() - since > STEADY_MS) failures = 0;
        if (this.#next) continue;
      } catch (error) {
        if (this.#life.ended) return;
        if (error !== this.#abandoned) this.#fail(error);
      }
      try {
        await this.#hurry.wait(backoff(failures, RETRY_MS, RETRY_MOST_MS), this.#life);
      } catch {
        return;
      }
    }
  }

  /** Makes one attempt. What an attempt brings that was given up meanwhile is closed. */
  async #connect(): Promise<Connection> {
    const attempt = new Scope(this.#life).within(ATTEMPT_MS, () =>
      notConnected(`no connection within ${ATTEMPT_MS / 1000} s`),
    );
    this.#attempts.add(attempt);
    try {
      const { connect, options } = this.#options;
      const chosen = await attempt.wait(Promise.resolve(typeof options === "function" ? options() : options));
      checkServers(chosen);
      const timeout = Math.min(CONNECT_MS * 2 ** this.#failures, CONNECT_MOST_MS);
      const making = connect({ timeout, noAsyncTraces: true, ...chosen, ...NEVER_AGAIN });
      making.then((nc) => attempt.ended && drop(nc), () => {});
      const nc = await attempt.wait(making);
      attempt.check();
      if (!nc.info) throw notConnected("the connection was lost at once");
      const { server_id: serverID, client_id: clientID } = nc.info;
      const identity = typeof clientID === "number" ? { serverID, clientID } : undefined;
      return { nc, scope: new Scope(), identity };
    } finally {
      this.#attempts.delete(attempt);
      attempt.end(undefined);
    }
  }

  #live(connection: Connection): void {
    this.#failure = undefined;
    this.#failures = 0;
    this.current = connection;
    void this.#follow(connection);
    void this.#watch(connection);
    this.#events.up(connection);
    this.#tell();
  }

  #fail(error: unknown): void {
    this.#failures++;
    this.#failure = explain(error);
    this.#events.failed(this.#failure);
  }

  #tell(): void {
    const waiting = [...this.#changed];
    this.#changed.clear();
    for (const resolve of waiting) resolve();
  }

  #abandon(reason: PresenceError): void {
    this.#abandoned = reason;
    for (const attempt of this.#attempts) attempt.end(reason);
    this.#lose(reason.message);
  }

  #lose(reason: string): void {
    const connection = this.current;
    if (!connection) return;
    this.current = undefined;
    connection.scope.end(notConnected(reason));
    drop(connection.nc);
    this.#events.lost();
  }

  #loseIf(connection: Connection, reason: string): void {
    if (this.current === connection) this.#lose(reason);
  }

  /** Follows what nats-core tells of a connection, until that is lost. */
  async #follow(connection: Connection): Promise<void> {
    const { nc } = connection;
    void nc.closed().then((error) => this.#loseIf(connection, error?.message ?? "the connection was closed"));
    let moving = false;
    for await (const status of nc.status()) {
      if (connection.scope.ended) return;
      switch (status.type) {
        case "disconnect":
        case "staleConnection":
        case "close":
          return this.#loseIf(connection, "the connection was lost");
        case "error":
          this.#events.error(status.error);
          break;
        case "ldm":
          if (!moving) this.#move(connection).catch(() => {});
          moving = true;
      }
    }
  }

  /**
   * Leaves a server that is about to stop: it reports closed connections no more. The new
   * connection comes first, because there may be no other server.
   */
  async #move(from: Connection): Promise<void> {
    for (let n = 0; ; n++) {
      await from.scope.sleep(n ? backoff(n, 500, RETRY_MOST_MS) : Math.random() * LAME_DUCK_SPREAD_MS);
      let to: Connection | undefined;
      try {
        to = await this.#connect();
      } catch {
        continue; // the loop ends with the connection
      }
      if (this.current !== from || to.identity?.serverID === from.identity?.serverID) {
        drop(to.nc);
        continue;
      }
      this.#next = to;
      this.#loseIf(from, "the server is about to stop");
      return;
    }
  }

  /** Asks for a sign of life whenever the connection has brought nothing for a while. */
  async #watch(connection: Connection): Promise<void> {
    const every = this.#options.probe;
    if (!every) return;
    try {
      for (let heard = -1; ; heard = amountOf(connection)) {
        await connection.scope.sleep(jitter(every));
        if (heard === amountOf(connection)) await this.#ask();
      }
    } catch {
      // The connection was lost.
    }
  }

  /** Asks for a sign of life because an answer did not come; at most once a second. */
  doubt(): void {
    const now = performance.now();
    if (!this.#options.probe || now - this.#doubted < PROBE_PAUSE_MS) return;
    this.#doubted = now;
    void this.#ask();
  }

  /** Each time that a connection was replaced in vain, the patience doubles: the broker is slow. */
  async #ask(): Promise<void> {
    const half = this.#options.probe / 2;
    const alive = await this.probe(this.#patience);
    this.#patience = alive ? half : Math.min(2 * this.#patience, Math.max(half, PROBE_MOST_MS));
  }

  /**
   * Asks the broker for a sign of life, and replaces the connection if none comes within the
   * limit. It asks the broker, never the service: while only that is away, the connection stays.
   * While there is no connection, the next attempt begins at once.
   */
  async probe(limit: number): Promise<boolean> {
    const connection = this.current;
    if (!connection) this.#hurry.ring();
    while (connection && !connection.scope.ended) {
      const begun = performance.now();
      const heard = amountOf(connection);
      const within = new Scope(connection.scope).within(limit, () => undefined);
      try {
        await within.wait(connection.nc.flush());
        return true;
      } catch {
        if (connection.scope.ended) break;
        if (heard !== amountOf(connection)) return true; // it is slow, but not dead
        if (performance.now() - begun > 2 * limit) continue; // the program stood still meanwhile
        this.#loseIf(connection, "the connection brings nothing, not even an answer to a PING");
      } finally {
        within.end(undefined);
      }
    }
    return false;
  }
}

/** What would make NATS go on by itself with a connection that was lost. */
const NEVER_AGAIN: ConnectionOptions = {
  reconnect: false,
  waitOnFirstConnect: false,
  ignoreAuthErrorAbort: true,
};

const notConnected = (message: string, cause?: unknown) =>
  new PresenceError("not_connected", message, { cause });

/** Closes a connection without waiting. */
function drop(nc: NatsConnection): void {
  nc.close().catch(() => {});
}

/** A measure of how much has come over a connection. */
function amountOf({ nc }: Connection): number {
  const { inMsgs, inBytes } = nc.stats();
  return inMsgs + inBytes;
}

const inBrowser = !(globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node;

/** nats-core takes an address without a scheme for wss:// and fails without saying so. */
function checkServers(options: ConnectionOptions | undefined): void {
  if (!inBrowser) return;
  const servers = [options?.servers ?? []].flat();
  if (servers.length === 0 || !servers.every((s) => /^wss?:\/\//i.test(s))) {
    throw new PresenceError("invalid_request", "options.servers must be ws:// or wss:// URLs");
  }
}

/** A browser does not say why a WebSocket failed. */
function explain(error: unknown): PresenceError {
  if (error instanceof PresenceError) return error;
  const said = (error instanceof Error && error.message) || String(error);
  const hint = inBrowser
    ? ": is the address right and the listener on, the page's origin allowed, the certificate trusted, " +
      "and the server in connect-src of the page's content security policy?"
    : "";
  return notConnected(`cannot connect to NATS (${said})${hint}`, error);
}
