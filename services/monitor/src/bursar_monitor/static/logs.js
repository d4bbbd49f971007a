// What the services say: the newest lines, filtered by the monitor, followed while the panel is on the screen.

import { h } from "./vdom.js";
import { empty } from "./parts.js";

const LEVELS = ["debug", "info", "warning", "error"];
const OWN = new Set(["number", "age_ms", "ts", "level", "service", "instance", "event"]);
const MOST = 300;

export class Logs {
  constructor(repaint) {
    this.repaint = repaint;
    this.wanted = { level: "info", service: "", text: "" };
    this.lines = null;
    this.last = 0;
    this.isPaused = false;
    this.isBusy = false;
  }

  /** Ask for what is new. What comes for a filter that is not the present one any more is let go. */
  async look() {
    if (this.isBusy || this.isPaused) return;
    this.isBusy = true;
    const asked = this.wanted;
    try {
      const answer = await fetch(`/lines?${new URLSearchParams({ ...asked, after: this.last, most: MOST })}`);
      if (!answer.ok || asked !== this.wanted) return;
      const { last, lines } = await answer.json();
      if (last < this.last) return this.choose({}); // another instance, or one that was started again
      this.last = last;
      if (this.lines === null || lines.length) {
        this.lines = [...(this.lines ?? []), ...lines].slice(-MOST);
        this.repaint();
      }
    } catch {
      // the stream says that the server has gone
    } finally {
      this.isBusy = false;
    }
  }

  choose(what) {
    this.wanted = { ...this.wanted, ...what };
    this.lines = null;
    this.last = 0;
    this.isBusy = false;
    this.look();
    this.repaint();
  }

  draw(names) {
    const select = (label, field, values, all) => h("label", {}, h("span", { class: "hidden" }, label),
      h("select", { onchange: (event) => this.choose({ [field]: event.currentTarget.value }) }, values.map((value) => h("option", { value, key: value, selected: this.wanted[field] === value }, value || all))));
    return [
      h("div", { class: "controls", key: "controls" },
        select("At least this level", "level", LEVELS, ""), select("Service", "service", ["", ...names], "all services"),
        h("label", { class: "search" }, h("span", { class: "hidden" }, "Text, or an id"), h("input", { type: "search", placeholder: "Text, or an id", autocomplete: "off", oninput: (event) => this.choose({ text: event.currentTarget.value }) })),
        h("button", { type: "button", "aria-pressed": String(this.isPaused), onclick: () => this.pause() }, this.isPaused ? "Follow" : "Pause")),
      this.lines === null ? empty("Asking.") : this.lines.length === 0 ? empty("Nothing was said.") :
        h("div", { class: "lines", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log lines, the newest first", key: "lines" }, [...this.lines].reverse().map((line) => this.line(line))),
    ];
  }

  line(line) {
    const fields = Object.entries(line).filter(([name]) => !OWN.has(name));
    return h("div", { class: `line ${line.level}`, key: line.number },
      h("time", {}, typeof line.ts === "number" ? new Date(line.ts * 1000).toLocaleTimeString("en-GB") : ""), h("span", { class: "level" }, line.level), h("span", { class: "who" }, line.instance || line.service || ""),
      h("span", { class: "said" }, String(line.event ?? ""), fields.map(([name, value]) => [" ", h("span", { class: "field" }, `${name}=`), typeof value === "string" ? value : JSON.stringify(value)])));
  }

  pause() {
    this.isPaused = !this.isPaused;
    this.look();
    this.repaint();
  }
}
