import { wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { Presence, type PresenceOptions, type Session, type State, type Status } from "../../src/index.js";
import type { Presenced } from "../kit/presenced.js";
import { eventually, type Owner } from "../kit/process.js";

/** How a client reaches presenced. */
export type Way = "tcp" | "webSocket";

/** A Presence of presenced, which is closed when the owner ends. */
export function presenceOf(
  owner: Owner,
  service: Presenced,
  options: Partial<PresenceOptions> = {},
  way: Way = "tcp",
): Presence {
  const where = way === "tcp" ? { servers: service.nats } : { servers: service.webSocket };
  const presence = new Presence({ connect: way === "tcp" ? connect : wsconnect, options: where, ...options });
  owner.after(() => presence.close());
  return presence;
}

/** Waits until a watched user's status is as wanted. */
export function seen(presence: Presence, userID: string, wanted: Partial<Status>): Promise<unknown> {
  const is = (status: Status) =>
    Object.entries(wanted).every(([name, value]) => status[name as keyof Status] === value);
  return eventually(`${userID} to be ${JSON.stringify(wanted)}`, () => is(presence.watched(userID)));
}

/** Waits until a client is live. */
export const live = (presence: Presence): Promise<unknown> =>
  eventually("the client to be live", () => presence.state.live);

/** Does something, and waits until the client is told to be blind by it, however shortly. */
export async function blindAfter(presence: Presence, cause: () => unknown): Promise<State & { live: false }> {
  let state: (State & { live: false }) | undefined;
  await live(presence);
  const off = presence.on("state", (s) => (state ??= s.live ? undefined : s));
  await cause();
  await eventually("the client to be blind", () => state);
  off();
  return state!;
}

/** Collects what a Presence tells. */
export function record(presence: Presence) {
  const told = { statuses: [] as Status[], states: [] as string[] };
  presence.on("status", (list) => told.statuses.push(...list));
  presence.on("state", (state) => told.states.push(state.live ? "live" : state.reason));
  return told;
}

/** The error that a promise rejects with, which must come within a moment. */
export async function errorOf(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (error: Error) => error,
  );
}

/** How a session ended, within a moment. */
export function endOf(session: Session): Promise<string | undefined> {
  let end: { code: string | undefined } | undefined;
  void session.ended.then((error) => (end = { code: error?.code }));
  return eventually("the session to end", () => end).then(({ code }) => code);
}
