import { PresenceError } from "../index.js";
import type { LoginOptions, Presence, Session, State, Status } from "../index.js";
import { TYPES } from "./constants.js";
import type { EventData } from "./events.js";
import { open } from "./opening.js";
import type { ChatLogin, ChatOptions } from "./options.js";

/** What a Login tells its Chat, until it is logged out. */
export interface Listener {
  statuses(list: Status[]): void;
  netState(state: EventData["netStateChange"]["state"]): void;
  /** The session, or the attempt to get one, has ended without a logout of ours. */
  ended(error: PresenceError | undefined): void;
}

/** One login of a Chat: a Presence of its own, and the session in it. */
export class Login {
  readonly userID: string;
  readonly presence: Presence;
  /** Rejects where the login failed. Then nothing of it is left. */
  readonly session: Promise<Session>;
  /** The session, once there is one. */
  established: Session | undefined;

  readonly #leaving = new AbortController();
  readonly #offs: (() => void)[];

  /** Connects at once, and logs in when the logout before it has settled. */
  constructor(chat: ChatOptions, login: ChatLogin, before: Promise<void>, listener: Listener) {
    this.userID = login.userID;
    const { options } = chat;
    this.presence = open({
      ...chat,
      options: typeof options === "function" ? () => options(login) : options,
    });
    this.#offs = [
      this.presence.on("status", (list) => listener.statuses(list)),
      this.presence.on("state", netStates(listener)),
    ];
    this.session = this.#begin(login, before, listener);
    this.session.catch(() => {}); // who called login is told
  }

  async #begin(login: ChatLogin, before: Promise<void>, listener: Listener): Promise<Session> {
    try {
      await before;
      const session = await this.presence.login(this.userID, this.#options(login));
      this.established = session;
      void session.ended.then((error) => this.#ended(error, listener));
      return session;
    } catch (error) {
      await this.#close();
      listener.ended(undefined);
      throw error;
    }
  }

  #options({ device, platform }: ChatLogin): LoginOptions {
    return {
      signal: this.#leaving.signal,
      ...(device !== undefined && { device }),
      ...(platform !== undefined && { platform }),
    };
  }

  /** Ends for good what a kick or another login has ended. */
  async #ended(error: PresenceError | undefined, listener: Listener): Promise<void> {
    if (this.#leaving.signal.aborted) return;
    listener.ended(error);
    await this.#close();
  }

  /**
   * Logs out and closes the connection. A login under way rejects with `closed`. Rejects
   * where the service could not be told: then the session ends with its TTL or connection.
   */
  async logout(): Promise<void> {
    this.#leaving.abort(new PresenceError("closed", `${this.userID} was logged out`));
    try {
      const session = await this.session.catch(() => undefined);
      await session?.logout();
    } finally {
      await this.#close();
    }
  }

  async #close(): Promise<void> {
    for (const off of this.#offs) off();
    await this.presence.close();
  }
}

/** Tells each change of what a State means for the network. */
function netStates(listener: Listener): (state: State) => void {
  let told = "";
  return (state) => {
    const now = netState(state);
    if (now !== told) listener.netState((told = now));
  };
}

function netState(state: State) {
  if (state.live) return TYPES.NET_STATE_CONNECTED;
  return state.reason === "disconnected" ? TYPES.NET_STATE_DISCONNECTED : TYPES.NET_STATE_CONNECTING;
}
