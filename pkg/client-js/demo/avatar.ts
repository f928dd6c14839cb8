import { make } from "./dom.js";
import type { Shown } from "./words.js";

/** Shapes beside the colours, for those who do not tell colours apart. On 16 × 16. */
const marks: Record<Shown, string> = {
  online: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z",
  away: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM7 4h2v4.200l2.6 1.5-1 1.700L7 9.400z",
  busy: "M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6z",
  dnd: "M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM4.5 6.900h7v2.200h-7z",
  invisible: "M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 3.700a4.3 4.3 0 1 1 0 8.6 4.3 4.3 0 0 1 0-8.600z",
  offline: "M8 1.500a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 3.700a4.3 4.3 0 1 1 0 8.6 4.3 4.3 0 0 1 0-8.600z",
  unlogined: "M4.3 2.8 8 6.500l3.7-3.7 1.5 1.500L9.5 8l3.7 3.7-1.5 1.500L8 9.500l-3.7 3.7-1.5-1.500L6.5 8 2.8 4.300z",
  unknown: "M2.5 7h2.500v2.200H2.500zM6.8 7h2.500v2.200H6.800zM11 7h2.500v2.200H11z",
};

const svg = "http://www.w3.org/2000/svg";

/** Shows the first letter of a name, in a colour of its own, with a mark of the status. */
export function showAvatar(element: HTMLElement, name: string, shown: Shown): void {
  if (element.dataset["name"] === name && element.dataset["shown"] === shown) {
    return;
  }
  Object.assign(element.dataset, { name, shown });
  element.ariaHidden = "true"; // the words stand beside it
  element.style.setProperty("--hue", String(hueOf(name)));
  const mark = document.createElementNS(svg, "svg");
  mark.setAttribute("viewBox", "0 0 16 16");
  mark.setAttribute("class", "mark");
  const path = document.createElementNS(svg, "path");
  path.setAttribute("d", marks[shown]);
  path.setAttribute("fill", "currentColor");
  path.setAttribute("fill-rule", "evenodd");
  mark.append(path);
  element.replaceChildren(make("span", "", firstLetter(name)), mark);
}

/** What a person takes for one letter may be several code points. */
function firstLetter(name: string): string {
  for (const { segment } of new Intl.Segmenter().segment(name)) {
    return segment;
  }
  return "";
}

function hueOf(name: string): number {
  let hue = 217;
  for (let i = 0; i < name.length; i++) {
    hue = (hue * 31 + name.charCodeAt(i)) % 360;
  }
  return hue;
}
