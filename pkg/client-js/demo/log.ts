import { byID, make } from "./dom.js";
import { clock } from "./words.js";

/** The most lines that are kept. */
const most = 60;

/** What happened, the latest first. */
export class Log {
  readonly #list = byID("log", HTMLOListElement);
  readonly #empty = byID("log-empty", HTMLElement);

  add(what: string): void {
    this.#empty.hidden = true;
    this.#list.prepend(make("li", "", make("time", "", clock(Date.now(), true)), make("span", "", what)));
    while (this.#list.children.length > most) {
      this.#list.lastElementChild?.remove();
    }
  }
}
