import type { Connection, LoginRequest, SessionInfo } from "./protocol/messages.js";
import { checkID, checkLogin } from "./protocol/check.js";
import type { LoginOptions } from "./types.js";

/**
 * How many connections are remembered that a session was bound to. The service may still name a
 * few of them after they were replaced.
 */
const OWN_CONNECTIONS = 8;

/** A random UUID. `crypto.randomUUID` is missing in pages that did not come by https. */
export function newID(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 15) | 64;
  bytes[8] = (bytes[8]! & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * What a session remembers of its logins. By it the session can tell news from what is older than
 * its last login, and its own connections from another client's.
 */
export class Logins {
  /** The session's ID: of the last login, or of the first to come. */
  id = "";
  /** What happened to the session without its holder. */
  news: "lost" | "shared" | undefined;
  readonly #options: LoginOptions;
  readonly #own: string[] = [];
  #shared = false;
  #epoch = "";
  #revision = 0;
  #newsAsOf = 0;

  constructor(options: LoginOptions) {
    this.#options = options;
    if (typeof options.sessionID !== "function") this.id = options.sessionID ?? newID();
    const { device } = options;
    checkLogin({
      ...this.#terms(),
      sessionID: this.id || undefined,
      device: typeof device === "function" ? undefined : device,
    });
  }

  /** The login to send now. If another client has bound the session, it has another ID. */
  async next(idle: boolean, connection: Connection | undefined): Promise<LoginRequest> {
    const { sessionID, device } = this.#options;
    const shared = this.news === "shared";
    this.news = undefined;
    if (shared) this.#shared = true;
    if (typeof sessionID === "function") {
      const why = shared ? "shared" : this.#revision ? "again" : "first";
      this.id = checkID(await sessionID(why, this.id || undefined));
    } else if (shared) {
      this.id = newID();
    }
    // The name is that of the shared session's device, which would be replaced.
    const name = typeof device === "function" ? device() : this.#shared ? undefined : device;
    const request = { ...this.#terms(), sessionID: this.id, device: name, idle, connection };
    checkLogin(request);
    if (connection) {
      this.#own.push(nameOf(connection));
      if (this.#own.length > OWN_CONNECTIONS) this.#own.shift();
    }
    return request;
  }

  /** Takes note that a login was answered. A loss before it does not matter any more. */
  done(epoch: string, revision: number): void {
    this.#epoch = epoch;
    this.#revision = revision;
    if (this.news === "lost" && this.#newsAsOf <= revision) this.news = undefined;
  }

  /** Takes in what the service says of the session, and reports whether it is news. */
  see(info: SessionInfo, epoch: string, revision: number): boolean {
    // The last login is newer, or not answered yet.
    if (epoch !== this.#epoch || revision <= this.#revision) return false;
    if (info.connection && !this.#own.includes(nameOf(info.connection))) this.news = "shared";
    else if (info.live) return false;
    else this.news ??= "lost";
    this.#newsAsOf = revision;
    return true;
  }

  #terms(): LoginRequest {
    const { platform, ttlSeconds, graceSeconds } = this.#options;
    return { platform, ttlSeconds, graceSeconds };
  }
}

const nameOf = ({ serverID, clientID }: Connection): string => `${serverID} ${clientID}`;
