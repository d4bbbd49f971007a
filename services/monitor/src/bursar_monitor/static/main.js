// The page: panels that are painted when there is news for what is on the screen, keys, theme.

import { h, paint } from "./vdom.js";
import { Source } from "./source.js";
import { firing, headline, tiles } from "./overview.js";
import { NAMED, PANELS, panelOf } from "./panels.js";
import { Hosts } from "./hosts.js";
import { Logs } from "./logs.js";
import { empty } from "./parts.js";
import { count, span } from "./format.js";

const find = (id) => document.getElementById(id);
const THEMES = ["system", "light", "dark"];

class Page {
  constructor() {
    this.source = new Source((what) => this.changed(what));
    this.panels = new Map();
    this.opened = new Set();
    this.wanted = null;
    this.seen = new IntersectionObserver((entries) => this.sighted(entries), { rootMargin: "150px" });
    this.hosts = new Hosts(() => this.paintPanel("hosts"));
    this.logs = new Logs(() => this.paintPanel("logs"));
    this.add({ id: "logs", title: "Logs", wide: true, look: () => this.logs.look(), draw: () => this.logs.draw((this.source.view?.services.names ?? [])) });
    for (const panel of PANELS) if (!panel.optional) this.add(panel);
    this.keys();
    this.theme(remembered("theme") ?? "system");
    find("theme").onclick = () => this.theme(THEMES[(THEMES.indexOf(this.chosen) + 1) % THEMES.length]);
    find("help-button").onclick = () => find("help").showModal();
    document.onvisibilitychange = () => (document.hidden ? this.source.close() : this.source.open());
    setInterval(() => this.paintAll(), 1000);
    this.source.open();
    this.paintAll();
  }

  // ---- panels

  add(panel) {
    if (panel.id === "hosts") panel = { ...panel, draw: (data) => this.hosts.draw(data), painted: (place) => this.hosts.painted(place) };
    const isClosed = (remembered("closed") ?? "").split(" ").includes(panel.id);
    const body = document.createElement("div");
    body.className = "panel-body";
    body.id = `${panel.id}-body`;
    const section = document.createElement("section");
    section.id = panel.id;
    section.className = panel.wide ? "panel wide" : "panel";
    section.tabIndex = -1;
    section.setAttribute("aria-labelledby", `${panel.id}-title`);
    const head = document.createElement("header");
    section.append(head, body);
    const before = PANELS.findIndex((other) => other.id === panel.id);
    const next = before < 0 ? find("logs") : PANELS.slice(before + 1).map((other) => find(other.id)).find((node) => node) ?? find("logs");
    find("panels").insertBefore(section, next);
    this.panels.set(panel.id, { panel, section, head, body, isSeen: false, isClosed });
    this.paintPanel(panel.id);
    this.seen.observe(section);
    this.navigation();
  }

  sighted(entries) {
    for (const entry of entries) {
      const known = this.panels.get(entry.target.id);
      if (known === undefined) continue;
      known.isSeen = entry.isIntersecting;
      if (known.isSeen) this.look(known);
    }
  }

  /** Fetch what a panel shows: only for one that is open and on the screen. */
  look({ panel, isSeen, isClosed }) {
    if (!isSeen || isClosed || document.hidden) return;
    for (const section of panel.sections ?? []) this.source.fetchSection(section);
    for (const question of panel.asks ?? []) this.source.fetchAnswer(question);
    panel.look?.();
    if (panel.id === "budgets") for (const key of this.opened) if (key.startsWith("holders/")) this.source.fetchAnswer("holders", key.slice(8));
    this.paintPanel(panel.id);
  }

  fold(known) {
    known.isClosed = !known.isClosed;
    remember("closed", [...this.panels.values()].filter((one) => one.isClosed).map((one) => one.panel.id).join(" "));
    this.look(known);
    this.paintPanel(known.panel.id);
  }

  // ---- painting

  changed(what) {
    if (what === "view" || what === "link") {
      for (const section of Object.keys(this.source.view?.counts ?? {})) this.discover(section);
      for (const known of this.panels.values()) this.look(known);
      this.paintTop();
    }
    for (const { panel, isSeen } of this.panels.values()) {
      if (isSeen && [...(panel.sections ?? []), ...(panel.asks ?? []), "holders"].includes(what)) this.paintPanel(panel.id);
    }
  }

  /** A section that the picture has and this page has no panel for (yet). */
  discover(section) {
    const waiting = PANELS.find((panel) => panel.optional === section && !this.panels.has(panel.id));
    if (waiting) this.add(waiting);
    else if (!NAMED.has(section) && !this.panels.has(panelOf(section).id)) this.add(panelOf(section));
  }

  paintAll() {
    this.paintTop();
    for (const { panel, isSeen } of this.panels.values()) if (isSeen) this.paintPanel(panel.id);
  }

  paintTop() {
    const source = this.source, state = { link: source.link, view: source.now, requestRate: source.requestRate };
    const [kind, text] = { live: ["ok", source.view === null ? "standing by" : "live"], lost: ["bad", "reconnecting"], connecting: ["", "connecting"] }[source.link];
    const age = source.age;
    paint(find("link"), h("span", { class: `lamp ${kind}`, "aria-hidden": "true" }), h("span", { id: "link-state" }, text), h("span", { class: "muted link-age" }, age === null ? "" : age < 4000 ? "" : `· ${span(age)} old`));
    find("instance").textContent = source.instance;
    document.body.classList.toggle("lost", source.link === "lost");
    paint(find("headline"), headline(state));
    paint(find("firing"), firing(state));
    paint(find("tiles"), tiles(state, source.curves));
    const loud = source.view ? source.view.alerts.critical + source.view.alerts.warning : 0;
    document.title = source.link === "lost" ? "Bursar · no connection" : loud ? `(${loud}) Bursar` : "Bursar";
    this.navigation();
  }

  navigation() {
    const counts = this.source.view?.counts ?? {};
    const number = (panel) => (panel.sections && !panel.isUncounted ? counts[panel.sections[0]] : undefined);
    const all = [...find("panels").children].map((node) => this.panels.get(node.id)?.panel).filter((panel) => panel);
    paint(find("navigation"), h("li", { key: "top" }, h("a", { href: "#overview" }, "Overview")), all.map((panel) => h("li", { key: panel.id }, h("a", { href: `#${panel.id}` }, panel.title, number(panel) === undefined ? null : h("span", { class: "count" }, count(number(panel)))))));
  }

  paintPanel(id) {
    const known = this.panels.get(id);
    if (known === undefined) return;
    const { panel, head, body, isClosed } = known;
    paint(head, h("h2", { id: `${id}-title` }, panel.title),
      h("button", { type: "button", class: "fold", "aria-expanded": String(!isClosed), "aria-controls": `${id}-body`, "aria-label": `${isClosed ? "Show" : "Hide"} ${panel.title}`, onclick: () => this.fold(known) }, isClosed ? "show" : "hide"));
    body.hidden = isClosed;
    if (isClosed) return;
    const isReady = (panel.sections ?? []).every((section) => this.source.has(section));
    if (isReady) paint(body, panel.draw(this.data()));
    else paint(body, this.source.view === null ? empty("This instance stands by and has no picture.") : h("div", { class: "skeleton" }, h("span", { class: "hidden" }, "Waiting.")));
    if (isReady) panel.painted?.(body);
    this.settle(id);
  }

  /** What a panel may ask for. */
  data() {
    return {
      rows: (section) => this.source.rows(section),
      told: (question, about) => this.source.told(question, about),
      isOpen: (key) => this.opened.has(key),
      open: (key, isOpen) => {
        if (this.opened.has(key) === isOpen) return;
        this.opened[isOpen ? "add" : "delete"](key);
        this.paintAll();
        this.look(this.panels.get("budgets"));
      },
    };
  }

  // ---- the person

  theme(chosen) {
    this.chosen = chosen;
    remember("theme", chosen);
    document.documentElement.dataset.theme = chosen;
    find("theme").textContent = `theme: ${chosen}`;
    this.paintAll();
  }

  /** Keys for those who do not like to move the hand: they are listed on the page itself. */
  keys() {
    document.onkeydown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
      const step = { j: 1, k: -1 }[event.key];
      if (step) this.step(step);
      else if (event.key === "t") find("theme").click();
      else if (event.key === "?") find("help").showModal();
      else if (event.key === "/") this.hurry("hosts", "input");
      else if (event.key === "l") this.hurry("logs", "select, input");
      else if (event.key === "g") this.go(find("overview"));
      else return;
      event.preventDefault();
    };
  }

  step(by) {
    const places = [find("overview"), ...find("panels").children];
    const at = Math.max(0, places.indexOf(document.activeElement?.closest("section")));
    this.go(places[Math.min(places.length - 1, Math.max(0, at + by))]);
  }

  hurry(id, what) {
    const place = find(id);
    if (!place) return;
    this.go(place);
    this.wanted = { id, what };
    this.settle(id);
  }

  /** Put the focus where it was wanted, as soon as that is there. */
  settle(id) {
    const found = this.wanted?.id === id ? find(id).querySelector(this.wanted.what) : null;
    if (found === null) return;
    this.wanted = null;
    found.focus({ preventScroll: true });
  }

  go(place) {
    place.scrollIntoView({ block: "start" });
    place.focus({ preventScroll: true });
  }
}

function remembered(name) {
  try {
    return localStorage.getItem(`bursar-${name}`);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`bursar-${name}`, value);
  } catch {
    // it is forgotten at the end, and that is all
  }
}

window.bursar = new Page();
