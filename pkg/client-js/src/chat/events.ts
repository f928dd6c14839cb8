import type { Status } from "../index.js";
import { PresenceError } from "../index.js";
import { EVENT } from "./constants.js";

/** What `event.data` is, by the event's name. */
export interface EventData {
  userStatusUpdated: Status[];
  netStateChange: { state: "connected" | "connecting" | "disconnected" };
  kickedOut: { code: string; message: string };
}

export type EventName = keyof EventData;

export interface ChatEvent<N extends EventName = EventName> {
  name: N;
  data: EventData[N];
}

export type Handler<N extends EventName = EventName> = (event: ChatEvent<N>) => void;

interface Registration {
  handler: Handler;
  context: unknown;
}

const NAMES: ReadonlySet<unknown> = new Set(Object.values(EVENT));

/** The handlers of a Chat, in the order in which they were registered. */
export class Handlers {
  readonly #byName = new Map<EventName, Registration[]>();

  /** Registers a handler. The same handler with the same context is called once. */
  on<N extends EventName>(name: N, handler: Handler<N>, context?: unknown): void {
    this.off(name, handler, context);
    this.#of(name).push({ handler: handler as Handler, context });
  }

  /** Takes a handler back; one that is not registered is no error. */
  off<N extends EventName>(name: N, handler: Handler<N>, context?: unknown): void {
    check(name, handler);
    const others = this.#of(name).filter((r) => r.handler !== handler || r.context !== context);
    this.#byName.set(name, others);
  }

  /** Calls the handlers. What one throws is an uncaught error, and the others are called. */
  emit<N extends EventName>(name: N, data: EventData[N]): void {
    for (const { handler, context } of this.#of(name)) {
      try {
        handler.call(context, { name, data });
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  clear(): void {
    this.#byName.clear();
  }

  #of(name: EventName): Registration[] {
    let list = this.#byName.get(name);
    if (!list) this.#byName.set(name, (list = []));
    return list;
  }
}

function check(name: unknown, handler: unknown): void {
  if (!NAMES.has(name)) {
    throw new PresenceError("invalid_request", "there is no such event: see TencentCloudChat.EVENT");
  }
  if (typeof handler !== "function") {
    throw new PresenceError("invalid_request", "the handler of an event must be a function");
  }
}
