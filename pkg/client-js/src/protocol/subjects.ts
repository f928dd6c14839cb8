import { checkID } from "./check.js";
import { PresenceError } from "./errors.js";
import { decodeToken, encodeToken } from "./token.js";

/** The last token of the subject of a request about one user (PROTOCOL 4.1 to 4.6). */
export type UserOp = "login" | "renew" | "logout" | "set" | "status" | "contacts";
/** The last token of the subject of a gateway's request (PROTOCOL 4.7). */
export type GatewayOp = "open" | "renew" | "apply" | "close";

/**
 * Builds and reads the subjects of the contract; nothing else in the package does. With the
 * prefix left out they are:
 *
 *     user.<user>.<op>     requests about one user
 *     get                  statuses of many
 *     gateway.<gw>.<op>    many users behind one connection
 *     status.<user>        the public event (PROTOCOL 5)
 *     self.<user>          the owner's event (PROTOCOL 5)
 *
 * `<user>` is a token ({@link encodeToken}), `<gw>` a gateway's ID as it is.
 */
export class Subjects {
  /** What all subjects begin with, without a final dot. */
  readonly prefix: string;
  /** The subject of the query for many users. */
  readonly get: string;

  /** A prefix has 1 to 64 bytes: tokens of A-Z a-z 0-9 _ - joined by dots. */
  constructor(prefix = "presence.v1") {
    if (typeof prefix !== "string" || prefix.length > 64 || !/^[\w-]+(\.[\w-]+)*$/.test(prefix)) {
      throw new PresenceError(
        "invalid_request",
        "the subject prefix must have 1 to 64 bytes: tokens of A-Z a-z 0-9 _ - joined by dots",
      );
    }
    this.prefix = prefix;
    this.get = prefix + ".get";
  }

  /** The subject of a request about one user; throws `invalid_user_id`. */
  user(userID: string, op: UserOp): string {
    return `${this.prefix}.user.${encodeToken(userID)}.${op}`;
  }

  /** The subject of a gateway's request; throws `invalid_request`. */
  gateway(gatewayID: string, op: GatewayOp): string {
    return `${this.prefix}.gateway.${checkID(gatewayID, "the gateway's ID")}.${op}`;
  }

  /** The subject of a user's public events; throws `invalid_user_id`. */
  event(userID: string): string {
    return `${this.prefix}.status.${encodeToken(userID)}`;
  }

  /** The subject of a user's own events; throws `invalid_user_id`. */
  self(userID: string): string {
    return `${this.prefix}.self.${encodeToken(userID)}`;
  }

  /** The user of a subject of public events; undefined for any other subject. */
  eventUser(subject: string): string | undefined {
    const begin = this.prefix + ".status.";
    if (!subject.startsWith(begin)) return undefined;
    try {
      return decodeToken(subject.slice(begin.length));
    } catch {
      return undefined;
    }
  }
}
