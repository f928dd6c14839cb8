import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from "react";
import type { ReactElement, ReactNode } from "react";
import { PresenceError } from "../index.js";
import type { Presence, Session, State, Status } from "../index.js";
import { checkUserID } from "../protocol/check.js";
import { Selection } from "./selection.js";
import { unknownStatus } from "./status.js";
import { storeOf } from "./store.js";

interface Shared {
  presence: Presence | undefined;
  session: Session | undefined;
}

const Context = createContext<Shared | undefined>(undefined);

export interface PresenceProviderProps {
  /** Made outside of React. Undefined on a server: there everybody is UNKNOWN. */
  presence: Presence | undefined;
  /** What `presence.login` gave, for {@link useMyStatus}. */
  session?: Session | undefined;
  children?: ReactNode;
}

/**
 * Gives the hooks below it their {@link Presence}. It neither opens nor closes it, so it may
 * be mounted, unmounted and rendered twice at will.
 */
export function PresenceProvider(props: PresenceProviderProps): ReactElement {
  const { presence, session, children } = props;
  const shared = useMemo(() => ({ presence, session }), [presence, session]);
  return createElement(Context.Provider, { value: shared }, children);
}

function useShared(): Shared {
  const shared = useContext(Context);
  if (!shared) throw new Error("presence-client/react: a hook is used outside of PresenceProvider");
  return shared;
}

/**
 * The status of a user, who is watched while the component is mounted and some seconds
 * longer. UNKNOWN until it is fetched, and while the connection is away (`useConnection`).
 * With null or undefined nobody is watched.
 *
 * @throws PresenceError invalid_user_id, to the nearest error boundary
 */
export function useStatus(userID: string | null | undefined): Status {
  const [status] = useStatuses(userID === null || userID === undefined ? NOBODY : [userID]);
  return status ?? UNKNOWN;
}

const NOBODY: readonly string[] = [];
const UNKNOWN = unknownStatus("");

/**
 * The statuses of users, in the order of their IDs: the same array until a status or an ID
 * changes. Any number of users; see {@link useStatus}.
 *
 * @throws PresenceError invalid_user_id, to the nearest error boundary
 */
export function useStatuses(userIDs: readonly string[]): readonly Status[] {
  const { presence } = useShared();
  if (!Array.isArray(userIDs)) {
    throw new PresenceError("invalid_request", "useStatuses takes an array of user IDs");
  }
  const key = userIDs.join("\n"); // no ID has a control character in it
  const selection = useMemo(() => {
    userIDs.forEach(checkUserID);
    return new Selection(presence && storeOf(presence), userIDs.slice());
  }, [presence, key, userIDs.length]); // another array with the same IDs is the same selection
  return useSyncExternalStore(selection.subscribe, selection.read, selection.readOnServer);
}

/**
 * The status of the provider's session's user in the owner's view, which shows an invisible
 * user as ONLINE. It changes with what is set on any device. UNKNOWN without a session.
 */
export function useMyStatus(): Status {
  const { presence, session } = useShared();
  const own = useMemo(() => ownOf(presence, session), [presence, session]);
  return useSyncExternalStore(own.subscribe, own.read, () => UNKNOWN);
}

function ownOf(presence: Presence | undefined, session: Session | undefined) {
  return {
    subscribe: (listener: () => void) => presence?.on("own", listener) ?? (() => {}),
    read: () => session?.status ?? UNKNOWN,
  };
}

/** Whether statuses can be trusted: live, or blind and why (PROTOCOL 8, G11). */
export function useConnection(): State {
  const { presence } = useShared();
  const link = useMemo(() => linkOf(presence), [presence]);
  return useSyncExternalStore(link.subscribe, link.read, () => NO_CONNECTION);
}

const NO_CONNECTION: State = Object.freeze({ live: false, reason: "disconnected" });

function linkOf(presence: Presence | undefined) {
  return {
    subscribe: (listener: () => void) => presence?.on("state", listener) ?? (() => {}),
    read: () => presence?.state ?? NO_CONNECTION,
  };
}
