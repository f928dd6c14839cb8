import type { Delivery } from "./delivery.js";
import type { Journal } from "./journal.js";
import type { Link } from "./link.js";
import type { ChangeReply } from "./protocol/messages.js";
import type { Subjects } from "./protocol/subjects.js";
import type { Queries } from "./queries.js";
import type { Requests } from "./requests.js";
import type { Scope } from "./scope.js";
import type { Session } from "./session.js";
import type { CallOptions, Settings } from "./types.js";
import type { Watching } from "./watching.js";

/** What the parts of a Presence share. */
export interface Core {
  readonly settings: Settings;
  readonly subjects: Subjects;
  /** Ends when the Presence is closed. */
  readonly life: Scope;
  readonly link: Link;
  readonly requests: Requests;
  readonly journal: Journal;
  readonly queries: Queries;
  readonly watching: Watching;
  readonly delivery: Delivery;
  readonly sessions: Set<Session>;
  /** Those of the sub-path "gateway". They are left when the Presence is closed. */
  readonly gateways: Set<{ leave(scope: Scope): Promise<void> }>;
  /** Runs a caller's call within its bounds. */
  run<T>(options: CallOptions | undefined, call: (scope: Scope) => Promise<T>): Promise<T>;
  /** Takes note of the revision of a change that this client has made. */
  wrote(epoch: string, revision: number): void;
  /** Takes note of a change, and of the owner's view after it. */
  changed(reply: ChangeReply): void;
}
