// The demo page: sign in under a name, watch others. It is bundled into presenced, which serves it
// at /demo/ (npm run demo).
import { wsconnect } from "@nats-io/nats-core";
import type { Presence, Session } from "presence-client";
import { openPage } from "presence-client/page";
import { Connection } from "./connection.js";
import { attempt, byID, make, say } from "./dom.js";
import { Log } from "./log.js";
import { Me } from "./me.js";
import { People } from "./people.js";
import { Steps } from "./steps.js";
import { sentenceOf } from "./words.js";

/** How often times such as "a minute ago" are shown anew, in ms. */
const often = 10_000;

/** Where a tab keeps who it has signed in, so that a reload signs in again. */
const key = "presence-demo.user";

const { servers = "", prefix = "presence.v1" } = document.documentElement.dataset;
const presence: Presence = openPage({ connect: wsconnect, options: { servers }, prefix });
const log = new Log();
const steps = new Steps();
const people = new People(presence, log, steps);
new Connection(presence, servers, log, steps);
let me: Me | undefined;

const card = byID("sign-in", HTMLElement);
const error = byID("sign-in-error", HTMLElement);
const input = byID("name", HTMLInputElement);
const button = card.querySelector<HTMLButtonElement>("button.primary");

async function signIn(name: string): Promise<void> {
  let session: Session | undefined;
  await attempt(error, sentenceOf, async () => (session = await presence.login(name)), button);
  if (!session) {
    keep(undefined);
    return;
  }
  keep(name);
  card.hidden = true;
  input.value = "";
  me = new Me(presence, session, steps);
  people.setYou(name);
  steps.done("signed-in");
  log.add(`you are signed in as ${name}`);
  document.title = `${name} · presence`;
  byID("other-tab", HTMLAnchorElement).href = `?as=${name === "bob" ? "alice" : "bob"}`;
  byID("text", HTMLInputElement).focus();
  void session.ended.then((why) => signedOut(why === undefined ? "" : endings[session?.endReason ?? ""] ?? sentenceOf(why)));
}

const endings: Record<string, string> = {
  kicked: "An operator has ended this session.",
  replaced: "You have signed in elsewhere in the place of this tab.",
  logout: "You have signed out on all devices.",
  erased: "This user was erased.",
};

function signedOut(why: string): void {
  me?.end();
  me = undefined;
  keep(undefined);
  people.setYou(undefined);
  card.hidden = false;
  say(error, why);
  log.add("you are signed out");
  document.title = "presence";
  input.focus();
}

/** Remembers who is signed in, for a reload of this tab. Some browsers let no page store anything. */
function keep(name: string | undefined): void {
  try {
    if (name === undefined) {
      sessionStorage.removeItem(key);
    } else {
      sessionStorage.setItem(key, name);
    }
  } catch {
    return;
  }
  history.replaceState(null, "", location.pathname); // "?as=" counts once
}

function kept(): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

byID("sign-in-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void signIn(input.value.trim());
});
for (const name of ["alice", "bob", "carol"]) {
  const quick = make("button", "link", name);
  quick.type = "button";
  quick.addEventListener("click", () => void signIn(name));
  byID("names", HTMLElement).append(quick);
}
setInterval(() => {
  people.render();
  me?.render();
}, often);

const name = kept() ?? new URLSearchParams(location.search).get("as");
if (name !== null) {
  void signIn(name);
} else {
  input.focus();
}
