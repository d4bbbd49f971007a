// What all panels are made of: pills, ages, tables, empty places.

import { h } from "./vdom.js";
import { NOTHING, ageText, byName, span, staleness, words } from "./format.js";

/** How old a number is. What is stale says so in words, too. */
export function age(ms) {
  const how = staleness(ms);
  const said = ms === null || ms === undefined ? "never heard" : `${span(ms)} old`;
  return h("span", { class: `age ${how}`, title: how ? `${said}: not fresh` : said }, ms === null || ms === undefined ? "never" : ageText(ms));
}

/** A state as a word with a colour: ok, warn, bad, info or none. */
export function pill(text, kind = "") {
  return h("span", { class: `pill ${kind}` }, words(text));
}

/** Where there is nothing to show, and why. */
export function empty(text) {
  return h("p", { class: "empty" }, text);
}

/**
 * A table. `columns`: [{ head, cell(row), right, rank, title }], rank 0 always shown, 1 and 2 hidden where it is narrow.
 * `name(row)`: what keeps a row its element.
 */
export function table(label, columns, rows, name, tone = () => "") {
  const kind = (column) => [column.right ? "right" : "", column.rank ? `rank-${column.rank}` : ""].join(" ").trim();
  return h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": `${label}, as a table` },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: kind(column), title: column.title }, column.head)))),
      h("tbody", {}, rows.map((row) => h("tr", { key: name(row), class: tone(row) },
        columns.map((column, index) => h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: kind(column) }, column.cell(row))))))));
}

/** A section that this page knows no better picture for: every column that says anything. */
export function plain(label, rows) {
  if (rows.length === 0) return empty("Nothing here.");
  const names = Object.keys(rows[0]).filter((name) => !["v", "age_ms"].includes(name) && rows.some((row) => row[name] !== null && row[name] !== ""));
  const columns = names.map((name, index) => ({
    head: words(name.replace(/_(ms|bytes|permille|micros|us|bytes_per_s)$/, "")), cell: (row) => byName(name, row[name]),
    right: rows.some((row) => typeof row[name] === "number"), rank: index > 5 ? 2 : index > 2 ? 1 : 0,
  }));
  if ("age_ms" in rows[0]) columns.push({ head: "age", cell: (row) => age(row.age_ms), right: true });
  return table(label, columns, rows.slice(0, 200), (row) => names.slice(0, 3).map((name) => row[name]).join("/"));
}

/** A number with its unit below a label. */
export function fact(label, value, more = "") {
  return h("div", { class: "fact" }, h("dt", {}, label), h("dd", {}, value ?? NOTHING, more ? h("small", {}, more) : null));
}
