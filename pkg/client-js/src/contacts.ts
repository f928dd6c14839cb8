import type { Core } from "./core.js";
import { checkContacts, checkUserID } from "./protocol/check.js";
import { readContactsReply } from "./protocol/decode.js";
import type { ContactsReply, ContactsRequest, SelfEvent } from "./protocol/messages.js";
import type { Scope } from "./scope.js";
import type { CallOptions } from "./types.js";

/** Makes a request about a user's contacts. */
export async function askContacts(
  core: Core,
  userID: string,
  body: ContactsRequest,
  scope: Scope,
): Promise<ContactsReply> {
  checkContacts(body);
  const repeatable = !(body.add ?? body.remove ?? body.replace);
  return core.requests.call(
    { subject: core.subjects.user(userID, "contacts"), body, read: readContactsReply, repeatable },
    scope,
  );
}

/**
 * Whom a user knows (PROTOCOL 4.6): at most 2,000, else `request_too_large`. Where the service's
 * friend-notification switch is on, they are watched while the user has a session here.
 *
 * Each method returns all contacts after it, sorted by bytes. A change whose error is
 * `outcome_unknown` may be done, now or later. It is not repeated, because another device may
 * have changed the contacts since.
 */
export class Contacts {
  readonly #core: Core;
  readonly #userID: string;

  /** @internal */
  constructor(core: Core, userID: string) {
    this.#core = core;
    this.#userID = userID;
  }

  read(options?: CallOptions): Promise<ContactsReply> {
    return this.#ask({}, options);
  }

  /** To add somebody who is there is no error. */
  add(userIDs: readonly string[], options?: CallOptions): Promise<ContactsReply> {
    return this.#ask({ add: userIDs as string[] }, options);
  }

  /** To remove somebody who is not there is no error. */
  remove(userIDs: readonly string[], options?: CallOptions): Promise<ContactsReply> {
    return this.#ask({ remove: userIDs as string[] }, options);
  }

  /** Replaces all contacts; an empty list clears them. */
  replace(userIDs: readonly string[], options?: CallOptions): Promise<ContactsReply> {
    return this.#ask({ replace: userIDs as string[] }, options);
  }

  #ask(body: ContactsRequest, options: CallOptions | undefined): Promise<ContactsReply> {
    return this.#core.run(options, (scope) => askContacts(this.#core, this.#userID, body, scope));
  }
}

/** What is known of a user's contacts, as of a version. */
export class KnownContacts {
  list: readonly string[] = [];
  friendNotifications = false;
  #version = 0;
  #fetched = false;
  /** The highest version in an event. */
  #heard = 0;

  /** Merges a change. It reports whether the contacts are to be fetched, or have changed. */
  event(event: SelfEvent): "fetch" | "changed" | undefined {
    const { version = 0, previousVersion, added = [], removed = [] } = event;
    if (version === 0) {
      this.#heard = 0; // the user was erased: versions begin anew
      return "fetch";
    }
    this.#heard = Math.max(this.#heard, version);
    if (!this.#fetched || version <= this.#version) return undefined;
    if (previousVersion !== this.#version) return "fetch";
    const list = new Set(this.list);
    for (const id of removed) list.delete(id);
    for (const id of added) list.add(id);
    this.list = [...list].sort();
    this.#version = version;
    return "changed";
  }

  /**
   * Takes a snapshot, unless it is older than an event. As the last attempt it counts all the
   * same: the contacts may have been restored from a backup.
   */
  take(reply: ContactsReply, last: boolean): boolean {
    if (reply.version < this.#heard && !last) return false;
    this.list = reply.contacts.sort();
    this.friendNotifications = reply.friendNotifications;
    this.#version = this.#heard = reply.version;
    this.#fetched = true;
    return true;
  }

  /** Those to be watched. */
  get watched(): Set<string> {
    return new Set(this.friendNotifications ? this.list.filter(isUserID) : []);
  }
}

function isUserID(id: string): boolean {
  try {
    checkUserID(id);
    return true;
  } catch {
    return false;
  }
}
