import type { State, Status } from "../../src/index.js";
import type { Source } from "../../src/react/store.js";

export function status(userID: string, statusType: Status["statusType"], revision: number): Status {
  return { userID, statusType, customStatus: "", revision };
}

type Handlers = { status: ((list: Status[]) => void)[]; state: ((state: State) => void)[] };

/** A Presence for tests of the store: it counts who is held, and says what a test makes it say. */
export class FakeSource implements Source {
  readonly held = new Map<string, number>();
  readonly calls: string[] = [];
  readonly handlers: Handlers = { status: [], state: [] };
  state: State = { live: true };
  /** How often a status was asked for. */
  asked = 0;
  #known = new Map<string, Status>();

  readonly hold = (ids: Iterable<string>): void => {
    const list = [...ids];
    this.calls.push(`hold ${list.join(" ")}`);
    for (const id of list) this.held.set(id, (this.held.get(id) ?? 0) + 1);
  };

  readonly release = (ids: Iterable<string>): void => {
    const list = [...ids];
    this.calls.push(`release ${list.join(" ")}`);
    for (const id of list) {
      const count = this.held.get(id);
      if (!count) throw new Error(`${id} is released and was not held`);
      if (count > 1) this.held.set(id, count - 1);
      else this.held.delete(id);
    }
  };

  readonly watched = (id: string): Status =>
    (++this.asked && this.state.live && this.held.has(id) && this.#known.get(id)) || status(id, 0, 0);

  readonly on = (name: string, handler: never): (() => void) => {
    const list = this.handlers[name as keyof Handlers] as unknown[];
    list.push(handler);
    return () => void list.splice(list.indexOf(handler), 1);
  };

  /** Makes statuses known, and tells of them as one event. */
  tell(...list: Status[]): void {
    for (const s of list) this.#known.set(s.userID, s);
    for (const handler of this.handlers.status) handler(list);
  }

  become(state: State): void {
    this.state = state;
    for (const handler of this.handlers.state) handler(state);
  }

  get listeners(): number {
    return this.handlers.status.length + this.handlers.state.length;
  }
}
