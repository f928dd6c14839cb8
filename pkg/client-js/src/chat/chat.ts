import { PresenceError } from "../index.js";
import type { Presence, Session, Status, UserFailure } from "../index.js";
import { checkUserID } from "../protocol/check.js";
import { EVENT } from "./constants.js";
import { Handlers } from "./events.js";
import type { EventName, Handler } from "./events.js";
import { Login } from "./login.js";
import type { ChatLogin, ChatOptions } from "./options.js";

/** What a promise of a chat resolves to. */
export interface Answer<Data> {
  code: 0;
  data: Data;
}

/**
 * The user-status calls of a chat SDK over a {@link Presence}, which `presence` gives for
 * everything else. Each login has a connection of its own, so nothing of one user is left
 * for the next.
 *
 * Promises resolve to `{ code: 0, data }`, and reject with a {@link PresenceError}. All
 * settle. What a call waits for is bounded by `ChatOptions.patience`.
 */
export class Chat {
  readonly #options: ChatOptions;
  readonly #handlers = new Handlers();
  #login: Login | undefined;
  /** Settles with the last logout: the next login waits, or the logout might end it. */
  #left: Promise<void> = Promise.resolve();

  /** @throws PresenceError invalid_request where there is no way to connect */
  constructor(options: ChatOptions) {
    this.#options = object(options, "create");
    if (typeof options.connect !== "function") {
      throw new PresenceError("invalid_request", "connect must be a function that connects to NATS");
    }
  }

  /** The Presence of the user who is logged in, or is being logged in. */
  get presence(): Presence | undefined {
    return this.#login?.presence;
  }

  /** The session of the user who is logged in: availability, contacts and more. */
  get session(): Session | undefined {
    return this.#login?.established;
  }

  /**
   * Logs a user in. Of a user who is logged in already it says `repeatLogin`; for another
   * one log out first (`invalid_request`).
   */
  async login(options: ChatLogin): Promise<Answer<{ userID: string; repeatLogin: boolean }>> {
    const { userID } = object(options, "login");
    checkUserID(userID);
    const before = this.#login;
    if (before && before.userID !== userID) {
      throw new PresenceError("invalid_request", `log out ${before.userID} first`);
    }
    await (before ?? this.#begin(options)).session;
    return answer({ userID, repeatLogin: before !== undefined });
  }

  /** Logs out. Where nobody is logged in it does nothing. */
  async logout(): Promise<Answer<Record<string, never>>> {
    const login = this.#login;
    if (login) {
      this.#login = undefined;
      const leaving = login.logout();
      this.#left = leaving.catch(() => {});
      await leaving;
    }
    return answer({});
  }

  /** Logs out and drops all handlers. */
  async destroy(): Promise<void> {
    this.#handlers.clear();
    await this.logout();
  }

  /**
   * Sets one's own text, for `expiresIn` seconds or without an end. An empty one clears it.
   * Where nobody knows whether it was set, the error is `outcome_unknown`.
   */
  async setSelfStatus(options: {
    customStatus: string;
    expiresIn?: number;
  }): Promise<Answer<Status>> {
    const { customStatus, expiresIn } = object(options, "setSelfStatus");
    const { session } = await this.#ready();
    const set = expiresIn === undefined ? {} : { expiresIn };
    return answer(await session.setStatus(customStatus, set));
  }

  /** Asks for the statuses of any number of users, as everybody sees them. */
  async getUserStatus(options: {
    userIDList: string[];
  }): Promise<Answer<{ successUserList: Status[]; failureUserList: UserFailure[] }>> {
    const ids = list(object(options, "getUserStatus").userIDList);
    const { presence } = await this.#ready();
    const { statuses, failures } = await presence.get(ids);
    return answer({ successUserList: statuses, failureUserList: failures });
  }

  /**
   * Watches any number of users. USER_STATUS_UPDATED brings their statuses as they are now,
   * and then each change.
   */
  async subscribeUserStatus(options: {
    userIDList: string[];
  }): Promise<Answer<{ failureUserList: UserFailure[] }>> {
    const ids = list(object(options, "subscribeUserStatus").userIDList);
    const { presence } = await this.#ready();
    const { failures } = await presence.subscribe(ids);
    return answer({ failureUserList: failures });
  }

  /** Ends the watching of these users; with an empty list, or without one, of all. */
  async unsubscribeUserStatus(
    options: { userIDList?: string[] } = {},
  ): Promise<Answer<{ failureUserList: UserFailure[] }>> {
    const { userIDList = [] } = object(options, "unsubscribeUserStatus");
    const ids = Array.isArray(userIDList) && userIDList.length === 0 ? undefined : list(userIDList);
    const { presence } = await this.#ready();
    const { failures } = await presence.unsubscribe(ids);
    return answer({ failureUserList: failures });
  }

  /** Registers a handler, which is called with `context` as its `this`. */
  on<N extends EventName>(name: N, handler: Handler<N>, context?: unknown): void {
    this.#handlers.on(name, handler, context);
  }

  /** Takes a handler back. */
  off<N extends EventName>(name: N, handler: Handler<N>, context?: unknown): void {
    this.#handlers.off(name, handler, context);
  }

  #begin(options: ChatLogin): Login {
    const login = new Login(this.#options, options, this.#left, {
      statuses: (list) => this.#handlers.emit(EVENT.USER_STATUS_UPDATED, list),
      netState: (state) => this.#handlers.emit(EVENT.NET_STATE_CHANGE, { state }),
      ended: (error) => {
        if (this.#login === login) this.#login = undefined;
        if (error) this.#handlers.emit(EVENT.KICKED_OUT, { code: error.code, message: error.message });
      },
    });
    return (this.#login = login);
  }

  /** Waits for a login that is under way. */
  async #ready(): Promise<{ presence: Presence; session: Session }> {
    const login = this.#login;
    if (!login) throw new PresenceError("not_logged_in", "log in first");
    return { presence: login.presence, session: await login.session };
  }
}

function answer<Data>(data: Data): Answer<Data> {
  return { code: 0, data };
}

function object<T extends object>(options: T, call: string): T {
  if (typeof options === "object" && options !== null) return options;
  throw new PresenceError("invalid_request", `${call} takes an object of options`);
}

/** Checks a list of users; what is in it the Presence checks. */
function list(userIDList: readonly string[]): readonly string[] {
  if (Array.isArray(userIDList) && userIDList.length > 0) return userIDList;
  throw new PresenceError("invalid_request", "userIDList must be an array of at least one user ID");
}
