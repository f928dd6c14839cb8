import type { Availability, Own, Presence, Session, Status } from "presence-client";
import { showAvatar } from "./avatar.js";
import { attempt, byID, make, say } from "./dom.js";
import type { Steps } from "./steps.js";
import { deviceOf, clock, moreOf, sentenceOf, sessionState, shownOf, wordOf } from "./words.js";

/** The card of whoever has signed in, for one session. */
export class Me {
  readonly #card = byID("me", HTMLElement);
  readonly #error = byID("me-error", HTMLElement);
  readonly #text = byID("text", HTMLInputElement);
  readonly #listeners = new AbortController();
  readonly #offs: (() => void)[];

  constructor(
    private readonly presence: Presence,
    private readonly session: Session,
    private readonly steps: Steps,
  ) {
    say(byID("me-name", HTMLElement), session.userID);
    this.#card.hidden = false;
    this.#offs = [presence.on("own", () => this.render()), presence.on("state", () => this.render())];
    this.#listen();
    this.render();
  }

  /** Takes the card away, when the session has ended. */
  end(): void {
    this.#offs.forEach((off) => off());
    this.#listeners.abort();
    this.#card.hidden = true;
    this.#text.value = "";
    say(this.#error, "");
  }

  /** Shows all once more: times go by. */
  render(): void {
    const { own, status } = this.session;
    if (status) {
      this.#showStatus(status);
    }
    if (own) {
      this.#showOwn(own);
    }
  }

  #showStatus(status: Status): void {
    const { live } = this.presence.state;
    const shown = live ? shownOf(status) : "unknown";
    showAvatar(byID("me-avatar", HTMLElement), this.session.userID, shown);
    const what = [live ? wordOf(shown) : "Not connected", status.customStatus, moreOf(status)];
    say(byID("me-status", HTMLElement), what.filter((part) => part !== "").join(" · "));
    this.#text.placeholder = status.customStatus === "" ? "in a meeting" : status.customStatus;
    byID("clear", HTMLButtonElement).disabled = status.customStatus === "";
  }

  #showOwn({ availability, sessions }: Own): void {
    const set = availability.override ?? availability.lasting;
    for (const input of document.querySelectorAll<HTMLInputElement>("#availability input")) {
      input.checked = input.value === set;
    }
    const devices = sessions.map((session) => {
      const name = make("span", "", deviceOf(session));
      if (session.sessionID === this.session.sessionID) name.append(make("span", "badge", "this tab"));
      const what = `${sessionState(session)} · since ${clock(session.loginAt)}`;
      return make("li", session.live ? "" : "lost", name, make("span", "hint", what));
    });
    byID("devices", HTMLUListElement).replaceChildren(...devices);
    byID("sign-out-all", HTMLButtonElement).hidden = sessions.length < 2;
  }

  #listen(): void {
    const { signal } = this.#listeners;
    const on = <E extends HTMLElement>(element: E, type: string, f: (event: Event) => void): void => element.addEventListener(type, f, { signal });
    const button = (id: string): HTMLButtonElement => byID(id, HTMLButtonElement);
    on(byID("text-form", HTMLFormElement), "submit", (event) => {
      event.preventDefault();
      void this.#setText();
    });
    on(button("clear"), "click", () => void this.#run(() => this.session.setStatus(""), button("clear")));
    on(byID("availability", HTMLFieldSetElement), "change", (event) => {
      const { value } = event.target as HTMLInputElement;
      void this.#run(() => this.session.setAvailability(value as Availability));
    });
    on(button("sign-out"), "click", () => void this.#run(() => this.session.logout(), button("sign-out")));
    on(button("sign-out-all"), "click", () => void this.#run(() => this.session.logout({ all: true }), button("sign-out-all")));
  }

  async #setText(): Promise<void> {
    const expiresIn = Number(byID("ends", HTMLSelectElement).value);
    const text = this.#text.value.trim();
    const set = await this.#run(() => this.session.setStatus(text, text === "" || expiresIn === 0 ? {} : { expiresIn }));
    if (set) {
      this.#text.value = "";
      if (text !== "") this.steps.done("text");
    }
  }

  async #run(change: () => Promise<unknown>, button?: HTMLButtonElement): Promise<boolean> {
    const done = await attempt(this.#error, sentenceOf, change, button);
    this.render(); // where it failed, what is set is what was set before
    return done;
  }
}
