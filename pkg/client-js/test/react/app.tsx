// The page of browser.test.ts: rows of statuses in StrictMode, which a test drives by window.app.
import { wsconnect } from "@nats-io/nats-core";
import { Component, Profiler, StrictMode } from "react";
import type { ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { Presence } from "../../src/index.js";
import type { Session } from "../../src/index.js";
import {
  PresenceProvider,
  useConnection,
  useMyStatus,
  useStatus,
  useStatuses,
} from "../../src/react/index.js";

/** How often a row was committed anew, by user. */
const commits: Record<string, number> = {};

function Row({ id }: { id: string }) {
  const { statusType, customStatus } = useStatus(id);
  return (
    <Profiler id={id} onRender={() => (commits[id] = (commits[id] ?? 0) + 1)}>
      <li id={`row-${id}`}>
        {statusType} {customStatus}
      </li>
    </Profiler>
  );
}

function Summary({ ids }: { ids: readonly string[] }) {
  const statuses = useStatuses(ids);
  return <p id="summary">{statuses.map((s) => `${s.userID}=${s.statusType}`).join(" ")}</p>;
}

function Mine() {
  const { userID, statusType, customStatus } = useMyStatus();
  return <p id="mine">{`${userID} ${statusType} ${customStatus}`}</p>;
}

function Connection() {
  const state = useConnection();
  return <p id="connection">{state.live ? "live" : "blind"}</p>;
}

class Boundary extends Component<{ children: ReactNode }, { code?: string }> {
  override state: { code?: string } = {};
  static getDerivedStateFromError(error: { code: string }) {
    return { code: error.code };
  }
  override render() {
    return this.state.code ? <p id="boundary">{this.state.code}</p> : this.props.children;
  }
}

export interface Shown {
  rows?: readonly string[];
  summary?: readonly string[];
  session?: Session | undefined;
}

export const app = {
  commits,
  presence: undefined as unknown as Presence,
  session: undefined as Session | undefined,
  root: createRoot(document.getElementById("root")!),

  open(server: string) {
    app.presence = new Presence({ connect: wsconnect, options: { servers: server } });
  },
  async login(userID: string) {
    app.session = await app.presence.login(userID, { platform: "web" });
  },
  show({ rows = [], summary = [] }: Shown) {
    app.root.render(
      <StrictMode>
        <PresenceProvider presence={app.presence} session={app.session}>
          <Boundary>
            <ul>
              {rows.map((id, i) => (
                <Row key={i} id={id} />
              ))}
            </ul>
          </Boundary>
          <Summary ids={summary} />
          <Mine />
          <Connection />
        </PresenceProvider>
      </StrictMode>,
    );
  },
};

export type App = typeof app;
