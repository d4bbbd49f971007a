// All hosts as one picture, and those that somebody should look at as a table.

import { h, paint } from "./vdom.js";
import { drawMap } from "./charts.js";
import { age, empty, pill, table } from "./parts.js";
import { bytes, percent } from "./format.js";

const MEASURES = {
  cpu: ["CPU", (row) => row.cpu_permille],
  memory: ["memory", (row) => (row.memory_total_bytes ? Math.round((row.memory_used_bytes * 1000) / row.memory_total_bytes) : null)],
  pressure: ["pressure", (row) => row.pressure_permille],
};
const FIRST = 12;

/** Keeps what the person has chosen: the measure, the search, whether all are listed. */
export class Hosts {
  constructor(repaint) {
    this.measure = "cpu";
    this.search = "";
    this.all = false;
    this.repaint = repaint;
    this.grid = null;
  }

  draw(data) {
    const rows = data.rows("hosts");
    if (rows.length === 0) return empty("No host is heard: run bursar-node on each.");
    const [label, of] = MEASURES[this.measure];
    const found = rows.filter((row) => row.host.includes(this.search));
    const sorted = [...found].sort((one, other) => other.silent - one.silent || (of(other) ?? -1) - (of(one) ?? -1));
    const shown = this.all ? sorted.slice(0, 500) : sorted.slice(0, FIRST);
    this.cells = [...found].sort((one, other) => one.host.localeCompare(other.host, "en", { numeric: true })).map((row) => ({ row, level: row.silent || of(row) === null ? null : of(row) / 1000 }));
    const silent = rows.filter((row) => row.silent).length;
    return h("div", {},
      h("div", { class: "controls" },
        h("div", { class: "segmented", role: "group", "aria-label": "What the map shows" }, Object.entries(MEASURES).map(([name, [text]]) => h("button", { type: "button", "aria-pressed": String(this.measure === name), onclick: () => this.choose({ measure: name }) }, text))),
        h("label", { class: "search" }, h("span", { class: "hidden" }, "Find a host"), h("input", { type: "search", placeholder: "Find a host", autocomplete: "off", value: this.search, oninput: (event) => this.choose({ search: event.currentTarget.value }) }))),
      h("canvas", { class: "map", role: "img", "aria-label": `${label} of ${found.length} hosts, ${silent} of them silent. The table below has the numbers.`, onmousemove: (event) => this.point(event), onmouseleave: () => this.point(null) }),
      h("p", { class: "map-caption", "aria-hidden": "true" }, this.caption ?? `${found.length === 1 ? "One host" : `${found.length} hosts by name`}: pale is idle, strong is busy, grey is silent`),
      table("Hosts", [
        { head: "host", cell: (row) => row.host },
        { head: "", cell: (row) => (row.silent ? pill("silent", "bad") : "") },
        { head: "CPU", right: true, cell: (row) => percent(row.cpu_permille) },
        { head: "memory", right: true, cell: (row) => percent(MEASURES.memory[1](row)) },
        { head: "pressure", right: true, rank: 1, cell: (row) => percent(row.pressure_permille, 1) },
        { head: "disk", right: true, rank: 2, cell: (row) => (row.disk_total_bytes ? percent((row.disk_used_bytes * 1000) / row.disk_total_bytes) : percent(null)) },
        { head: "in/s", right: true, rank: 2, cell: (row) => bytes(row.received_bytes_per_s) },
        { head: "out/s", right: true, rank: 2, cell: (row) => bytes(row.sent_bytes_per_s) },
        { head: "age", right: true, cell: (row) => age(row.age_ms) },
      ], shown, (row) => row.host, (row) => (row.silent ? "silent" : "")),
      sorted.length > FIRST ? h("button", { type: "button", class: "more", onclick: () => this.choose({ all: !this.all }) }, this.all ? "Show the busiest only" : `Show ${Math.min(500, sorted.length)} of ${rows.length}`) : null);
  }

  /** After the panel is in the document. */
  painted(place) {
    const canvas = place.querySelector("canvas");
    if (canvas === null || canvas.clientWidth === 0) return;
    const style = getComputedStyle(canvas);
    const scale = Array.from({ length: 8 }, (_, index) => style.getPropertyValue(`--heat-${index}`).trim());
    this.grid = drawMap(canvas, this.cells, { scale, silent: style.getPropertyValue("--heat-none").trim() });
  }

  choose(what) {
    Object.assign(this, what);
    this.repaint();
  }

  point(event) {
    let caption;
    if (event && this.grid) {
      const box = event.currentTarget.getBoundingClientRect();
      const at = Math.floor((event.clientY - box.top) / this.grid.size) * this.grid.columns + Math.floor((event.clientX - box.left) / this.grid.size);
      const row = this.cells[at]?.row;
      if (row) caption = row.silent ? `${row.host}: silent` : `${row.host}: CPU ${percent(row.cpu_permille)}, memory ${percent(MEASURES.memory[1](row))}`;
    }
    if (caption !== this.caption) this.choose({ caption });
  }
}
