import type { ConnectionOptions } from "@nats-io/nats-core";
import type { PresenceOptions } from "../index.js";

/** What `login` takes. Anything else that it is given is for {@link ChatOptions.options}. */
export interface ChatLogin {
  userID: string;
  /** A login that names the same device replaces that device's earlier session. */
  device?: string;
  /** `web` in a browser and `unknown` elsewhere, unless given. */
  platform?: string;
  /** Proves who the user is; what it is, is between `ChatOptions.options` and the NATS server. */
  userSig?: string;
  [more: string]: unknown;
}

/** How a chat connects: as a Presence does, but for `options`. */
export interface ChatOptions extends Omit<PresenceOptions, "options"> {
  /**
   * NATS options, or a function that makes them of what `login` was given, such as a token.
   * The function is asked before each attempt to connect.
   */
  options: ConnectionOptions | ((login: ChatLogin) => ConnectionOptions | Promise<ConnectionOptions>);
}
