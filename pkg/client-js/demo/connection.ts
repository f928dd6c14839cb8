import type { Presence, State } from "presence-client";
import { byID, say } from "./dom.js";
import type { Log } from "./log.js";
import type { Steps } from "./steps.js";

/** How long it may be blind before a banner says so, in ms. A moment is nothing to be told of. */
const patience = 1_000;

/** Whether what is shown can be trusted. */
export class Connection {
  readonly #chip = byID("connection", HTMLElement);
  readonly #words = this.#chip.querySelector("span") ?? this.#chip;
  readonly #banner = byID("blind", HTMLElement);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wasLive = false;
  #told = false;

  constructor(
    private readonly presence: Presence,
    private readonly servers: string,
    private readonly log: Log,
    private readonly steps: Steps,
  ) {
    presence.on("state", (state) => this.#show(state));
    this.#show(presence.state);
  }

  #show(state: State): void {
    clearTimeout(this.#timer);
    this.#chip.dataset["state"] = state.live ? "live" : state.reason === "closed" ? "closed" : "connecting";
    say(this.#words, state.live ? "Live" : (shorts[state.reason] ?? "Connecting…"));
    if (state.live) {
      this.#banner.hidden = true;
      if (this.#told) {
        this.log.add("connected again");
        this.steps.done("blind");
      }
      this.#told = false;
      this.#wasLive = true;
      return;
    }
    this.#timer = setTimeout(() => this.#tell(), patience);
  }

  /** Says that it is blind, and why: once it has been for a while. */
  #tell(): void {
    const { state } = this.presence;
    if (state.live) {
      return;
    }
    this.#banner.hidden = false;
    say(this.#banner, sentences[state.reason] ?? `There is no connection to ${this.servers}. Is presenced running? Trying again and again …`);
    if (this.#wasLive && !this.#told) {
      this.log.add("the connection is lost: nobody's status is known");
      this.#told = true;
    }
  }
}

const shorts: Record<string, string> = {
  resyncing: "Catching up…",
  epoch_changed: "Catching up…",
  dropped: "Catching up…",
  offline: "Off line",
  suspended: "Paused",
  refused: "Refused",
  closed: "Closed",
};

const sentences: Record<string, string> = {
  offline: "This device is off line. What is shown may be old.",
  resyncing: "The service is being asked what happened meanwhile …",
  epoch_changed: "The service is being asked what happened meanwhile …",
  dropped: "The service is being asked what happened meanwhile …",
  fetch_failed: "The service does not answer. Trying again and again …",
  refused: "The server does not let this page watch.",
  closed: "This page is closed. Reload it to go on.",
};
