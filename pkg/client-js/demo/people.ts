import { type Presence, type Status, StatusType } from "presence-client";
import { showAvatar } from "./avatar.js";
import { attempt, byID, make, say } from "./dom.js";
import type { Log } from "./log.js";
import { Roster } from "./roster.js";
import type { Steps } from "./steps.js";
import { moreOf, sentenceOf, shownOf, wordOf } from "./words.js";

/** One person in the list. */
interface Row {
  item: HTMLLIElement;
  show(status: Status, you: boolean): void;
}

/** The people who are watched. */
export class People {
  /** Whom this tab has signed in. */
  #you: string | undefined;
  readonly #list = byID("people", HTMLUListElement);
  readonly #error = byID("watch-error", HTMLElement);
  readonly #rows = new Map<string, Row>();
  /** What was last seen of each, for the log; never UNKNOWN. */
  readonly #seen = new Map<string, Status>();
  readonly #roster = new Roster(() => this.#sync());

  constructor(
    private readonly presence: Presence,
    private readonly log: Log,
    private readonly steps: Steps,
  ) {
    presence.on("status", (list) => list.forEach((status) => this.#changed(status.userID)));
    presence.on("state", () => this.render());
    const form = byID("watch-form", HTMLFormElement);
    const input = byID("watch", HTMLInputElement);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#add(input);
    });
    this.#sync();
  }

  /** Says whom this tab has signed in; they are watched, too. */
  setYou(name: string | undefined): void {
    this.#you = name;
    if (name !== undefined) {
      this.#roster.add(name);
    }
    this.render();
  }

  /** Shows all once more: times go by. */
  render(): void {
    for (const [name, row] of this.#rows) {
      row.show(this.presence.watched(name), name === this.#you);
    }
    const online = [...this.#rows.keys()].filter((name) => this.presence.watched(name).statusType === StatusType.ONLINE);
    const count = online.length === 0 ? "nobody online" : `${online.length} online`;
    say(byID("online", HTMLElement), this.presence.state.live ? count : "not known");
  }

  async #add(input: HTMLInputElement): Promise<void> {
    const name = input.value.trim();
    const added = await attempt(this.#error, sentenceOf, async () => {
      this.presence.hold([name]); // an ID that is not valid throws
      this.presence.release([name]);
      this.#roster.add(name);
    });
    if (added) {
      input.value = "";
    }
  }

  /** Watches whom the roster has, and shows them in its order. */
  #sync(): void {
    const { names } = this.#roster;
    for (const [name, row] of this.#rows) {
      if (!names.includes(name)) {
        this.presence.release([name]);
        row.item.remove();
        this.#rows.delete(name);
        this.#seen.delete(name);
      }
    }
    for (const name of names) {
      if (!this.#rows.has(name)) {
        try {
          this.presence.hold([name]);
        } catch {
          continue; // another program wrote it into the storage
        }
        this.#rows.set(name, this.#row(name));
      }
    }
    this.render();
  }

  /** Tells of a change, and shows it. */
  #changed(name: string): void {
    const row = this.#rows.get(name);
    const now = this.presence.watched(name);
    if (!row || now.statusType === StatusType.UNKNOWN) {
      return;
    }
    const before = this.#seen.get(name);
    this.#seen.set(name, now);
    this.render();
    if (before && before.revision !== now.revision) {
      this.log.add(`${name} ${happened(before, now)}`);
      row.item.classList.remove("changed");
      void row.item.offsetWidth; // or the animation would not begin anew
      row.item.classList.add("changed");
    }
    if (name !== this.#you && this.#you !== undefined) {
      if (now.statusType === StatusType.ONLINE) this.steps.done("other");
      if (now.statusType === StatusType.OFFLINE && before?.statusType === StatusType.ONLINE) this.steps.done("offline");
    }
  }

  #row(name: string): Row {
    const avatar = make("span", "avatar");
    const you = make("span", "you", "you");
    const title = make("p", "name", make("span", "", name), you);
    const text = make("p", "text");
    const word = make("span", "word");
    const more = make("span");
    const remove = make("button", "", "×");
    remove.type = "button";
    remove.ariaLabel = `Stop watching ${name}`;
    remove.title = remove.ariaLabel;
    remove.addEventListener("click", () => {
      this.#roster.remove(name);
      byID("watch", HTMLInputElement).focus(); // what had the focus is gone
    });
    const item = make("li", "", avatar, make("div", "about", title, text, make("p", "line", word, more)), remove);
    this.#list.append(item);
    const show = (status: Status, isYou: boolean): void => {
      const shown = shownOf(status);
      item.dataset["shown"] = shown;
      word.dataset["shown"] = shown;
      you.hidden = !isYou;
      showAvatar(avatar, name, shown);
      say(text, status.customStatus);
      text.hidden = status.customStatus === "";
      say(word, wordOf(shown));
      const what = moreOf(status);
      say(more, what === "" ? "" : ` · ${what}`);
    };
    return { item, show };
  }
}

/** What a change was, in words. */
function happened(before: Status, now: Status): string {
  if (shownOf(before) !== shownOf(now)) {
    const text = now.customStatus === "" ? "" : `: ${now.customStatus}`;
    return `is ${wordOf(shownOf(now)).toLowerCase()}${text}`;
  }
  if (before.customStatus !== now.customStatus) {
    return now.customStatus === "" ? "has cleared the text" : `says: ${now.customStatus}`;
  }
  return "has changed when the text ends";
}
