import { byID } from "./dom.js";

export type Step = "signed-in" | "other" | "text" | "offline" | "blind";

/** What can be tried, ticked off as it is done. */
export class Steps {
  readonly #list = byID("steps", HTMLOListElement);

  done(step: Step): void {
    this.#list.querySelector(`[data-step="${step}"]`)?.classList.add("done");
  }
}
