// What was spent and saved, what should be asked for instead, and what agents have of hosts.

import { h } from "./vdom.js";
import { bar, stack } from "./charts.js";
import { age, empty, pill, table } from "./parts.js";
import { NOTHING, bytes, count, dollars, grouped, percent, span, windowOf, words } from "./format.js";

const share = (part, whole) => (part === null || part === undefined || !whole ? null : Math.round((part * 1000) / whole));

const WAYS = {
  agent: ["agent", (row) => row.agent],
  team: ["team", (row) => row.team || "no team"],
  model: ["model", (row) => row.model || "own slots"],
  class: ["class", (row) => row.task_class || "called directly"],
};
const FIRST = 8;
const EACH = 3; // of one kind of advice, unless all is shown

/** The bill by whatever the person chooses, what was saved, and budgets that count money. */
export function cost(data) {
  const rows = data.rows("costs"), savings = data.rows("savings");
  const budgets = data.rows("budgets").filter((row) => row.dimension.startsWith("usd_micros"));
  if (rows.length === 0 && budgets.length === 0) return empty("Nothing was spent yet.");
  return h("div", { class: "columns" },
    h("div", {}, bill(data, rows)),
    h("div", {}, saved(savings), limits(budgets)));
}

function bill(data, rows) {
  if (rows.length === 0) return [h("h3", { class: "sub" }, "Spent"), empty("Neither calls nor slots have cost anything yet.")];
  const way = Object.keys(WAYS).find((name) => data.isOpen(`cost/${name}`)) ?? "agent";
  const choose = (chosen) => Object.keys(WAYS).forEach((name) => data.open(`cost/${name}`, name === chosen));
  const [label, of] = WAYS[way];
  const found = sums(rows, of), all = found.reduce((sum, one) => sum + one.micros, 0), isPartial = found.some((one) => one.unknown);
  const isOpen = data.isOpen("cost/all"), shown = isOpen ? found.slice(0, 200) : found.slice(0, FIRST);
  return [
    h("p", { class: "total" }, h("strong", {}, dollars(all)), h("span", { class: "muted" }, isPartial ? " and what has no price" : " since the ledgers began"), age(rows[0].age_ms)),
    h("div", { class: "controls" }, h("div", { class: "segmented", role: "group", "aria-label": "Added up by" },
      Object.entries(WAYS).map(([name, [text]]) => h("button", { type: "button", "aria-pressed": String(name === way), onclick: () => choose(name) }, text)))),
    table(`Cost by ${label}`, [
      { head: label, cell: (one) => one.name },
      { head: "cost", right: true, cell: (one) => (one.unknown ? h("span", { title: "some of it has no price" }, one.micros ? `${dollars(one.micros)} +` : "no price") : dollars(one.micros)) },
      { head: "", rank: 1, cell: (one) => bar(share(one.micros, found[0].micros), "", `${percent(share(one.micros, all))} of all`) },
      { head: "calls", right: true, rank: 1, cell: (one) => count(one.calls) },
      { head: "tokens", right: true, rank: 2, cell: (one) => count(one.tokens) },
      { head: "slots", right: true, rank: 2, cell: (one) => (one.slots ? span(one.slots) : NOTHING), title: "Time of slots of workers" },
    ], shown, (one) => one.name),
    found.length > FIRST ? h("button", { type: "button", class: "more", "aria-expanded": String(isOpen), onclick: () => data.open("cost/all", !isOpen) }, isOpen ? "Show the dearest only" : `Show ${Math.min(200, found.length)}`) : null,
  ];
}

function sums(rows, of) {
  const found = new Map();
  for (const row of rows) {
    const name = of(row);
    const one = found.get(name) ?? { name, micros: 0, unknown: 0, calls: 0, tokens: 0, slots: 0 };
    one.micros += row.usd_micros ?? 0;
    one.unknown += row.usd_micros === null ? 1 : 0;
    one.calls += row.calls;
    one.tokens += row.input_tokens + row.output_tokens;
    one.slots += row.slot_ms;
    found.set(name, one);
  }
  return [...found.values()].sort((one, other) => other.micros - one.micros || one.name.localeCompare(other.name));
}

function saved(rows) {
  const title = h("h3", { class: "sub" }, "Saved");
  if (rows.length === 0) return [title, empty("Nothing to compare with yet: give prices and a reference in [costs].")];
  return [title, h("ul", { class: "savings" }, rows.map((row) => h("li", { key: row.saving },
    h("p", {}, h("strong", { class: row.usd_micros < 0 ? "bad" : "" }, row.usd_micros === null ? "not known" : dollars(row.usd_micros)), " ", h("span", {}, words(row.saving)),
      row.counterfactual === null ? null : h("span", { class: "muted" }, ` ${dollars(row.actual)} instead of ${dollars(row.counterfactual)}`)),
    h("p", { class: "muted" }, row.text))))];
}

function limits(rows) {
  if (rows.length === 0) return null;
  return [h("h3", { class: "sub" }, "Budgets in money"), table("Budgets in money", [
    { head: "budget", cell: (row) => row.budget },
    { head: "spent", right: true, cell: (row) => dollars(Math.max(0, row.used - row.in_flight)) },
    { head: "in flight", right: true, rank: 1, cell: (row) => dollars(row.in_flight) },
    { head: "of", right: true, cell: (row) => `${dollars(row.limit)}${row.window_ms ? ` / ${windowOf(row.window_ms)}` : ""}` },
    { head: "", rank: 1, cell: (row) => h("span", { class: "with-bar" }, bar(share(row.used, row.limit), "", `${percent(share(row.used, row.limit))} spent`), h("span", {}, percent(share(row.used, row.limit)))) },
    { head: "age", right: true, cell: (row) => age(row.age_ms) },
  ], rows, (row) => row.budget)];
}

const KINDS = { gpu_memory: "GPU memory", cpu: "CPU", memory: "memory", slots: "slots", spot: "spot share" };

/** What should be asked for instead, from what is used: what saves most first. */
export function advice(data) {
  const rows = data.rows("advice");
  if (rows.length === 0) return empty("Nothing is looked at yet.");
  const ready = rows.filter((row) => row.advised !== null && row.advised !== row.requested);
  const saving = ready.reduce((sum, row) => sum + Math.max(0, row.saving_micros ?? 0), 0);
  const isOpen = data.isOpen("advice/all"), shown = isOpen ? rows.slice(0, 200) : ready.filter((row) => ready.filter((other) => other.kind === row.kind).indexOf(row) < EACH).slice(0, FIRST);
  return h("div", {},
    h("p", { class: "total" }, h("strong", {}, `${dollars(saving)} / h`), h("span", { class: "muted" }, ready.length ? " could be saved" : ` to save: ${rows.length} requests fit, or are watched for too short a time`)),
    shown.length === 0 ? null : table("Advice", [
      { head: "what", cell: (row) => h("span", { title: row.text }, `${KINDS[row.kind] ?? row.kind} · ${row.subject}`) },
      { head: "asked for", right: true, cell: (row) => amount(row, row.requested) },
      { head: "used p50", right: true, rank: 2, cell: (row) => used(row, row.used_p50) },
      { head: "p95", right: true, rank: 1, cell: (row) => used(row, row.used_p95) },
      { head: "advised", right: true, cell: (row) => (row.advised === null ? h("span", { class: "muted", title: row.text }, "too early") : h("strong", {}, amount(row, row.advised))) },
      { head: "saves / h", right: true, cell: (row) => (row.saving_micros === null ? NOTHING : dollars(row.saving_micros)) },
    ], shown, (row) => `${row.kind}/${row.subject}`),
    rows.length > shown.length || isOpen ? h("button", { type: "button", class: "more", "aria-expanded": String(isOpen), onclick: () => data.open("advice/all", !isOpen) }, isOpen ? "Show what saves most" : `Show all ${Math.min(200, rows.length)}`) : null);
}

/** A number of a row in its own unit. */
function amount(row, value) {
  if (value === null) return NOTHING;
  if (row.kind === "spot") return percent(value);
  if (row.unit === "MiB") return bytes(value * 2 ** 20);
  return row.kind === "cpu" ? `${(value / 1000).toFixed(1)} CPU` : grouped(value);
}

const used = (row, value) => (row.kind === "spot" ? `${grouped(value)} slots` : amount(row, value));

/** What agents have leased of hosts, what they use of it, and how the fleet's memory is divided. */
export function quotas(data) {
  const leases = data.rows("leases"), pools = data.rows("pools").filter((row) => row.used_bytes), groups = data.rows("processes");
  if (!leases.length && !pools.length && !groups.length) return empty("No agent has leased anything of a host, and no probe tells of processes.");
  return h("div", {},
    leases.length === 0 ? empty("No agent has leased anything of a host.") : table("Leases of hosts", [
      { head: "agent", cell: (row) => row.agent },
      { head: "host", rank: 1, cell: (row) => row.host },
      { head: "CPU", cell: (row) => part(row.used_cpu_milli, row.limit_cpu_milli, `${cpus(row.used_cpu_milli)} of ${cpus(row.limit_cpu_milli)}`) },
      { head: "memory", cell: (row) => part(row.used_memory_bytes, row.limit_memory_bytes, `${bytes(row.used_memory_bytes)} of ${bytes(row.limit_memory_bytes)}`) },
      { head: "own CPU", right: true, rank: 2, cell: (row) => cpus(row.cpu_milli), title: "What is guaranteed; beyond that it borrows" },
      { head: "kept by", rank: 2, cell: (row) => row.held_by || NOTHING },
      { head: "left", right: true, rank: 1, cell: (row) => span(row.left_ms) },
      { head: "age", right: true, cell: (row) => age(row.age_ms) },
    ], leases.slice(0, 100), (row) => row.lease),
    h("div", { class: "columns" },
      h("div", {}, pools.length === 0 ? null : [sub("Memory by pool, the fullest first", pools[0]), byFullness(pools).slice(0, FIRST).map(pool)]),
      h("div", {}, groups.length === 0 ? null : [sub("Processes of the fleet", groups[0]), table("Processes of the fleet", [
        { head: "who", cell: (row) => row.group },
        { head: "host", rank: 1, cell: (row) => row.host },
        { head: "CPU", right: true, cell: (row) => cpus(row.cpu_milli) },
        { head: "memory", right: true, cell: (row) => bytes(row.rss_bytes) },
        { head: "", cell: (row) => (row.crashes ? pill(`${row.crashes} crashed`, "bad") : row.leak_permille >= 100 ? pill("grows", "warn") : "") },
      ], [...groups].sort((one, other) => other.crashes - one.crashes || other.rss_bytes - one.rss_bytes).slice(0, FIRST), (row) => `${row.host}/${row.group}`)])));
}

const sub = (title, row) => h("h3", { class: "sub" }, `${title} · `, age(row.age_ms));

const byFullness = (rows) => [...rows].sort((one, other) => other.used_permille - one.used_permille);

const cpus = (milli) => (milli === null ? NOTHING : `${(milli / 1000).toFixed(1)}`);

const part = (value, whole, label) => h("span", { class: "with-bar" }, bar(share(value, whole), share(value, whole) > 950 ? "warn" : "", label), h("span", {}, label));

function pool(row) {
  return h("div", { class: "limit", key: `${row.host}/${row.pool}` },
    h("span", { class: "limit-name" }, `${words(row.pool)} · ${row.host}`),
    stack([{ kind: "used", amount: row.used_bytes, label: `${bytes(row.used_bytes)} in use` }], row.budget_bytes, `${row.pool} of ${row.host}: ${percent(row.used_permille)}`, [800, 900]),
    h("span", { class: `limit-share ${row.used_permille >= 900 ? "warn" : ""}` }, percent(row.used_permille)),
    h("span", { class: "limit-numbers" }, `${bytes(row.used_bytes)} of ${bytes(row.budget_bytes)}`));
}
