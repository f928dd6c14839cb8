import type { ConnectionOptions, NatsConnection } from "@nats-io/nats-core";
import { isPresenceError, type LoginOptions, Presence, PresenceError, type PresenceOptions, type Session } from "../index.js";
import { turn } from "../timing.js";
import { Idle } from "./idle.js";
import { Liveness } from "./liveness.js";
import { Policy } from "./policy.js";
import { Pulse } from "./pulse.js";
import { Sockets } from "./socket.js";
import { TabSession } from "./tab.js";

/** The least TTL of a page's session, in seconds: timers of hidden pages run once a minute. */
const TTL_SECONDS = 180;
const IDLE_MS = 60_000;

/** How a page connects and waits. */
export interface PageOptions extends PresenceOptions {
  /**
   * How long the page is hidden before its sessions say that nobody is there, in milliseconds;
   * default 60,000. With Infinity the page leaves that to {@link Session.setIdle}.
   */
  idleAfter?: number;
}

/** Connects a web page. `openPage` says what it does. */
export class PagePresence extends Presence {
  readonly #prefix: string;
  readonly #sockets: Sockets;
  readonly #pulse: Pulse;
  readonly #policy: Policy;
  readonly #liveness = new Liveness((limit) => this.#ask(limit));
  readonly #idle: Idle;
  readonly #tabs = new Set<TabSession>();
  readonly #listeners = new AbortController();
  /** The page was left, and the connection dropped. */
  #left = false;
  /** The browser says that it is off line, and nothing has proved it wrong. */
  #offline = false;

  constructor({ idleAfter = IDLE_MS, ...options }: PageOptions) {
    if (typeof document === "undefined") {
      throw new PresenceError("invalid_request", "this is no web page: use Presence instead");
    }
    if (!(idleAfter >= 0)) {
      throw new PresenceError("invalid_request", "idleAfter is not a number of milliseconds");
    }
    const pulse = new Pulse();
    const sockets = new Sockets(pulse.beat);
    const policy = new Policy(document);
    const connect = connecting(options.connect, pulse, sockets, policy);
    super({
      ...options,
      connect: async (given) => {
        const nc = await connect(given);
        if (this.#offline) void turn().then(() => this.#liveness.ask());
        return nc;
      },
    });
    this.#prefix = options.prefix ?? "presence.v1";
    this.#pulse = pulse;
    this.#sockets = sockets;
    this.#policy = policy;
    this.#idle = new Idle(idleAfter, (idle) => this.#setIdle(idle));
    this.#listen();
  }

  /**
   * Logs in as `Presence.login` does, with what suits a page: platform `web`, and a TTL of at
   * least 180 s. The tab keeps the session's ID over reloads, and names the `device` only while
   * no other tab does. With a `sessionID` of your own, do that yourself.
   */
  override async login(userID: string, options: LoginOptions = {}): Promise<Session> {
    const chosen = {
      ...options,
      platform: options.platform ?? "web",
      idle: options.idle ?? this.#idle.now,
      ttlSeconds: ttlOf(options),
    };
    if (options.sessionID !== undefined) return super.login(userID, chosen);
    const device = typeof options.device === "function" ? options.device() : options.device;
    const tab = new TabSession({ ...browser(), prefix: this.#prefix, userID, device });
    this.#tabs.add(tab);
    try {
      const session = await super.login(userID, {
        ...chosen,
        sessionID: (why, earlier) => tab.sessionID(why, earlier),
        device: () => tab.device(),
      });
      void session.ended.then(() => {
        this.#tabs.delete(tab);
        tab.forget();
      });
      return session;
    } catch (error) {
      this.#tabs.delete(tab);
      // Otherwise the session may be open, and the next attempt resumes it.
      if (isPresenceError(error, "session_replaced")) tab.forget();
      else tab.release();
      throw error;
    }
  }

  override async close(): Promise<void> {
    this.#listeners.abort();
    this.#liveness.setVisible(false);
    this.#idle.stop();
    try {
      await super.close();
    } finally {
      this.#pulse.stop();
      this.#policy.stop();
    }
  }

  #listen(): void {
    const { signal } = this.#listeners;
    const on = (target: EventTarget, type: string, f: (event: Event) => void): void =>
      target.addEventListener(type, f, { signal });
    on(window, "pagehide", () => this.#leave());
    on(window, "pageshow", (event) => {
      if ((event as PageTransitionEvent).persisted) this.#comeBack();
    });
    on(document, "visibilitychange", () => this.#see());
    on(document, "resume", () => void this.#liveness.ask());
    for (const type of ["online", "offline"]) {
      on(window, type, () => {
        this.#setOffline(!navigator.onLine);
        void this.#liveness.ask();
      });
    }
    this.#pulse.onWake = () => void this.#liveness.ask();
    this.#pulse.start();
    this.#setOffline(!navigator.onLine);
    this.#see();
  }

  /** The page may be gone in a moment, or go into the back-forward cache: nothing is awaited. */
  #leave(): void {
    this.#left = true;
    this.suspend();
    this.#sockets.closeAll();
    for (const tab of this.#tabs) tab.release();
  }

  /** The page comes out of the back-forward cache, where even its socket said what is not so. */
  #comeBack(): void {
    if (!this.#left) return;
    this.#left = false;
    this.#pulse.awake();
    this.resume();
  }

  #see(): void {
    const visible = document.visibilityState === "visible";
    this.#pulse.beat();
    this.#idle.setVisible(visible);
    this.#liveness.setVisible(visible);
  }

  /**
   * Asks for a sign of life. Where one comes the browser is not off line, whatever it says: it
   * takes a machine without a network for off line, though the broker may be on that machine.
   */
  async #ask(limit: number): Promise<boolean> {
    const alive = await this.probe(limit);
    if (alive) this.#setOffline(false);
    return alive;
  }

  #setOffline(offline: boolean): void {
    if (offline === this.#offline) return;
    this.#offline = offline;
    this.doubt(offline ? "offline" : undefined);
  }

  #setIdle(idle: boolean): void {
    for (const session of this.sessions) session.setIdle(idle).catch(() => {});
  }
}

/** The user's `connect`, as a page needs it. */
function connecting(
  connect: PresenceOptions["connect"],
  pulse: Pulse,
  sockets: Sockets,
  policy: Policy,
): (options: ConnectionOptions) => Promise<NatsConnection> {
  return async (options) => {
    await pulse.steady();
    const tried: string[] = [];
    const wsFactory = async (url: string) => {
      tried.push(url);
      return sockets.open(url);
    };
    try {
      return await connect({ ...options, wsFactory } as ConnectionOptions);
    } catch (error) {
      await turn(); // the browser tells of its policy a moment later
      const refused = tried.find((url) => policy.refuses(url));
      if (refused === undefined) throw error;
      const message = `the page's content security policy has no ${refused} in connect-src`;
      throw new PresenceError("not_connected", message, { cause: error });
    }
  };
}

/** What the browser lets the page use; some browsers throw where it may not. */
function browser(): { locks: LockManager | undefined; storage: Storage | undefined } {
  let storage: Storage | undefined;
  try {
    storage = window.sessionStorage;
  } catch {
    storage = undefined;
  }
  return { locks: (navigator as Partial<Navigator>).locks, storage };
}

/** The default outlasts the grace, as the service's own does (PROTOCOL 4.1). */
function ttlOf({ ttlSeconds, graceSeconds = 0 }: LoginOptions): number {
  const outlasting = Math.max(graceSeconds + 60, Math.ceil(1.5 * graceSeconds));
  return Math.max(TTL_SECONDS, ttlSeconds ?? outlasting);
}
