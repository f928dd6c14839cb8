// The dashboard: it shows what /dashboard/events tells. Everything is set as text, never as HTML.

const HOUR = 3_600_000;
const RETRY = 10_000; // after presenced has refused a stream, in ms
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);

/** Makes an element with attributes and children; what is no node becomes text. */
function make(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

function draw(name, attributes = {}) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
}

// Numbers for people.
const count = (n) => Math.round(n).toLocaleString("en");
const rate = (n) => (n >= 100 ? count(n) : n.toLocaleString("en", { maximumFractionDigits: n < 1 ? 2 : 1 }));
const millis = (n) => (n >= 1000 ? `${rate(n / 1000)} s` : `${rate(n)} ms`);
const seconds = (n) => (n < 1 ? `${count(n * 1000)} ms` : n < 120 ? `${rate(n)} s` : n < 7200 ? `${count(n / 60)} min` : `${count(n / 3600)} h`);
function bytes(n) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}
const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

// absent: 0 means that nothing was measured, and the line has a gap there.
const CHARTS = [
  { title: "Users", unit: "by status", show: count, series: [["online", "Online"], ["offline", "Offline"], ["unlogined", "Logged out"]] },
  { title: "Requests", unit: "a second", show: rate, series: [["changes", "Changes"], ["queries", "Queries"], ["renewals", "Renewals"]] },
  { title: "Latency", unit: "median, and what 99 % do not exceed", show: millis, absent: true,
    series: [["changeP50", "Changes, median"], ["changeP99", "Changes, 99 %"], ["queryP50", "Queries, median"], ["queryP99", "Queries, 99 %"]] },
  { title: "Events and refusals", unit: "a second", show: rate, series: [["events", "Events"], ["refused", "Refusals"]] },
  { title: "Journal lag", unit: "since the state was known to be current", show: seconds, series: [["lag", "Lag"]] },
];

let samples = [];
let every = 5;

/** How much time the charts show: all that there is, in round minutes, up to an hour. */
function span() {
  const minutes = (samples.at(-1).at - samples[0].at) / 60_000;
  return [5, 10, 20, 60].find((m) => m >= Math.min(minutes, 60)) * 60_000;
}

/** A round number that is not much above n: where an axis ends. */
function ceiling(n) {
  if (n <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 3, 4, 6, 8, 10].map((x) => x * power).find((x) => x >= n * 0.999999);
}

class Chart {
  static #WIDTH = 480;
  static #HEIGHT = 188;
  static #LEFT = 72;
  static #BOTTOM = 156;
  static #TOP = 10;

  #spec;
  #plot;
  #svg = draw("svg", { viewBox: `0 0 ${Chart.#WIDTH} ${Chart.#HEIGHT}`, "aria-hidden": "true" });
  #heading = make("th", { scope: "col" }, "Now");
  #rows;
  #read = make("p", { class: "unseen", role: "status" });
  #at = null; // the sample that is read; null: the latest

  constructor(spec) {
    this.#spec = spec;
    this.#plot = make("div", { class: "plot", tabindex: "0", role: "img" }, this.#svg);
    this.#rows = spec.series.map(([, name], i) => {
      const key = draw("svg", { class: "key", viewBox: "0 0 26 10", "aria-hidden": "true" });
      key.append(draw("line", { class: `series s${i}`, x1: 0, x2: 26, y1: 5, y2: 5 }));
      const cells = ["", "", ""].map((x) => make("td", {}, x));
      return { row: make("tr", {}, make("th", { scope: "row" }, key, name), ...cells), cells };
    });
    const table = make("table", { "aria-label": spec.title },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "unseen" }, "Series")), this.#heading, make("th", { scope: "col" }, "Mean"), make("th", { scope: "col" }, "Most"))),
      make("tbody", {}, ...this.#rows.map((r) => r.row)));
    $("refused").before(make("section", { class: "card chart", "aria-label": `${spec.title}, ${spec.unit}` },
      make("h3", {}, spec.title, " ", make("small", {}, spec.unit)), this.#plot, table, this.#read));
    this.#plot.addEventListener("pointermove", (e) => this.#point(e));
    this.#plot.addEventListener("pointerleave", () => this.#go(null));
    this.#plot.addEventListener("blur", () => this.#go(null));
    this.#plot.addEventListener("keydown", (e) => this.#key(e));
  }

  #point(e) {
    if (samples.length === 0) return;
    const box = this.#svg.getBoundingClientRect();
    const x = ((e.clientX - box.left) / box.width) * Chart.#WIDTH;
    const at = this.#end() - span() * (1 - (x - Chart.#LEFT) / (Chart.#WIDTH - 4 - Chart.#LEFT));
    this.#go(samples.reduce((best, s) => (Math.abs(s.at - at) < Math.abs(best.at - at) ? s : best)).at);
  }

  #key(e) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60, Home: -Infinity, End: Infinity }[e.key];
    if (e.key === "Escape") this.#go(null);
    if (steps === undefined || samples.length === 0) return;
    e.preventDefault();
    const from = this.#at === null ? samples.length - 1 : samples.findIndex((s) => s.at >= this.#at);
    const s = samples[Math.min(Math.max(from + steps, 0), samples.length - 1)];
    this.#go(s.at);
    this.#read.textContent = `${clock(s.at)}: ${this.#spec.series.map(([k, name]) => `${name} ${this.#text(s, k)}`).join(", ")}`;
  }

  #go(at) {
    if (this.#at === at) return;
    this.#at = at;
    this.update();
  }

  #end() { return samples.at(-1).at; }

  /** A value, or null where there is none. */
  #value(s, key) { return !s.served || (this.#spec.absent && !s[key]) ? null : (s[key] ?? 0); }

  #text(s, key) {
    const v = this.#value(s, key);
    return v === null ? "–" : this.#spec.show(v);
  }

  update() {
    if (samples.length === 0) return;
    const spec = this.#spec;
    const shown = samples.find((s) => s.at === this.#at) ?? samples.at(-1);
    this.#heading.textContent = this.#at === null ? "Now" : clock(shown.at);
    let most = 0;
    const words = [];
    spec.series.forEach(([key, name], i) => {
      const values = samples.map((s) => this.#value(s, key)).filter((v) => v !== null);
      const top = Math.max(0, ...values);
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      most = Math.max(most, top);
      const cells = this.#rows[i].cells;
      cells[0].textContent = this.#text(shown, key);
      cells[1].textContent = values.length === 0 ? "–" : spec.show(mean);
      cells[2].textContent = values.length === 0 ? "–" : spec.show(top);
      words.push(`${name}: ${this.#text(samples.at(-1), key)}`);
    });
    this.#plot.setAttribute("aria-label", `${spec.title}, ${spec.unit}, chart of the last hour. Now ${words.join(", ")}`);
    this.#paint(ceiling(most), this.#at === null ? null : shown.at);
  }

  #paint(top, cursor) {
    const [width, left, bottom, end] = [Chart.#WIDTH - 4, Chart.#LEFT, Chart.#BOTTOM, this.#end()];
    const all = span();
    const x = (at) => left + (1 - (end - at) / all) * (width - left);
    const y = (v) => bottom - (v / top) * (bottom - Chart.#TOP);
    const parts = [];
    for (const v of [0, top / 2, top]) {
      parts.push(draw("line", { class: "grid", x1: left, x2: width, y1: y(v), y2: y(v) }));
      const label = draw("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" });
      label.textContent = this.#spec.show === count && v % 1 ? "" : this.#spec.show(v);
      parts.push(label);
    }
    for (const part of [1, 0.5, 0]) {
      const label = draw("text", { x: x(end - part * all), y: Chart.#HEIGHT - 5, "text-anchor": part === 1 ? "start" : part === 0 ? "end" : "middle" });
      label.textContent = part === 0 ? "now" : `−${(part * all) / 60_000} min`;
      parts.push(label);
    }
    this.#spec.series.forEach(([key], i) => {
      let path = "";
      let before = null;
      for (const s of samples) {
        const v = this.#value(s, key);
        if (v === null) { before = null; continue; }
        const gap = before === null || s.at - before > 3000 * every;
        path += `${gap ? "M" : "L"}${x(s.at).toFixed(1)} ${y(v).toFixed(1)}`;
        if (gap) path += "h.1"; // a single value is a dot
        before = s.at;
      }
      parts.push(draw("path", { class: `series s${i}`, d: path, "stroke-linecap": "round" }));
    });
    if (cursor !== null) parts.push(draw("line", { class: "cursor", x1: x(cursor), x2: x(cursor), y1: Chart.#TOP, y2: bottom }));
    this.#svg.replaceChildren(...parts);
  }
}

const charts = CHARTS.map((spec) => new Chart(spec));

/** Fills a list of terms. */
function facts(list, pairs) {
  $(list).replaceChildren(...pairs.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))));
}

function rows(body, columns, list, none) {
  $(body).replaceChildren(...(list.length > 0 ? list : [make("tr", {}, make("td", { colspan: columns, class: "empty" }, none))]));
}

/** Says something new only: a screen reader reads it out. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let warned = "";
function warn(list) {
  const key = JSON.stringify(list);
  if (key === warned) return;
  warned = key;
  $("warnings").replaceChildren(...list.map((w) => make("li", { class: w.severe ? "warning severe" : "warning" }, w.text)));
}

function state(name, text) {
  $("state").dataset.state = name;
  document.body.classList.toggle("stale", name === "waiting");
  say($("state"), text);
}

function showNow(now) {
  const s = samples.at(-1);
  state(now.ready ? "ready" : "bad", now.ready ? "Ready" : "Not ready");
  $("instance").textContent = [now.host, `presenced ${now.version}`, now.server && `on NATS server ${now.server}`].filter(Boolean).join(" · ");
  document.title = `${now.ready ? "" : "! "}presence: ${now.host}`;
  warn(now.warnings);
  facts("tiles", [
    ["users online", count(s.online ?? 0)], ["users offline", count(s.offline ?? 0)],
    ["live sessions", count(now.sessions)], ["changes a second", rate(s.changes ?? 0)], ["queries a second", rate(s.queries ?? 0)],
    ["99 % of changes within", s.changeP99 ? millis(s.changeP99) : "–"],
  ]);
  rows("instances", 6, now.instances.map((i) => {
    const own = i.answering;
    const cells = [i.version ?? "–", i.silentMs < 1000 ? "just now" : `${seconds(i.silentMs / 1000)} ago`, count(i.owes), own ? count(now.position) : "–", own ? seconds(s.lag ?? 0) : "–"];
    return make("tr", own ? { class: "own" } : {}, make("th", { scope: "row" }, `${i.host ?? i.writer}${own ? " (this one)" : ""}`), ...cells.map((c) => make("td", {}, c)));
  }), "none yet");
  rows("refusals", 2, now.refusals.map((r) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, r.error)), make("td", {}, count(r.count)))), "none since the start");
  facts("journal", [
    ["Journal", bytes(now.journalBytes)], ["Written within (99 %)", now.appendP99 ? millis(now.appendP99) : "–"],
    ["Changes that wait", count(now.waiting)],
    ["Newest snapshot", now.snapshotPosition ? `${bytes(now.snapshotBytes)}, ${seconds(now.snapshotAge)} old` : "none yet"],
    ["Entries since it", count(now.position - now.snapshotPosition)],
    ["Gateways", count(now.gateways)], ["Format", String(now.format)],
    ...(now.diskSize ? [["Disk free", `${bytes(now.diskFree ?? 0)} of ${bytes(now.diskSize)}`]] : []),
    ...(now.inside ? [["NATS connections", count(now.connections)], ["Closed as too slow", count(now.slowConsumers)]] : []),
  ]);
}

function show(now) {
  showNow(now);
  for (const c of charts) c.update();
}

let events = null; // the stream, while the page is seen
let retry;

function connect() {
  clearTimeout(retry);
  if (events !== null || document.hidden) return;
  const stream = events = new EventSource("events");
  stream.addEventListener("hour", (e) => {
    const data = JSON.parse(e.data);
    ({ samples, every } = data);
    if (samples.length > 0) show(data.now);
  });
  stream.addEventListener("sample", (e) => {
    const { sample, now } = JSON.parse(e.data);
    samples.push(sample);
    while (sample.at - samples[0].at > HOUR) samples.shift();
    show(now);
  });
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED) { // it connects again by itself
      state("waiting", "presenced does not answer. Trying again…");
      return;
    }
    events = null;
    state("waiting", "presenced refuses: are too many pages open? Trying again…");
    retry = setTimeout(connect, RETRY);
  };
}

function disconnect() {
  clearTimeout(retry);
  events?.close();
  events = null;
}

// A browser opens six connections to an address at most, so a page that nobody sees gives its own
// back. When it is seen again it gets the whole hour anew.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
connect();
