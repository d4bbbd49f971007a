// The panels: what each needs to know, and how it is shown. `data.rows(section)` has rows with their ages as of now,
// `data.told(question)` the answer of a service with its age.

import { h } from "./vdom.js";
import { bar, hue, stack } from "./charts.js";
import { advice, cost, quotas } from "./money.js";
import { age, empty, fact, pill, plain, table } from "./parts.js";
import { NOTHING, bytes, count, grouped, latency, money, percent, span, windowOf, words } from "./format.js";

const share = (part, whole) => (part === null || part === undefined || !whole ? null : Math.round((part * 1000) / whole));

const SEVERITIES = { critical: "bad", warning: "warn" };
const ALONE = 3; // so many alerts of one rule are shown one by one

function alerts(data) {
  const rows = data.rows("alerts");
  if (rows.length === 0) return empty("Nothing fires.");
  const causes = new Map(data.rows("incidents").map((row) => [row.incident, row]));
  const groups = grouping(rows, (row) => `${row.rule}/${row.silenced}`);
  return h("ul", { class: "alerts" }, [...groups].map(([name, alike]) => {
    const key = `alerts/${name}`, isOpen = alike.length <= ALONE || data.isOpen(key);
    const shown = (isOpen ? alike : alike.slice(0, 1)).map((row) => alert(row, causes.get(row.incident)));
    if (alike.length <= ALONE) return shown;
    return [shown, h("li", { key, class: "alert-more" }, h("button", { type: "button", "aria-expanded": String(isOpen), onclick: () => data.open(key, !isOpen) },
      isOpen ? `Show one of ${alike.length}` : `and ${alike.length - 1} more of ${alike[0].rule}`))];
  }));
}

function alert(row, cause) {
  const isCause = !cause || (cause.rule === row.rule && cause.subject === row.subject);
  const about = [row.rule, row.subject, row.silenced ? "silenced" : "", row.inhibited ? "muted by another alert" : "", row.acknowledged_by ? `${row.acknowledged_by} is looking at it` : ""];
  return h("li", { key: row.alert, class: row.silenced || row.inhibited ? "alert silenced" : "alert" },
    pill(row.severity, SEVERITIES[row.severity] ?? "info"),
    h("div", { class: "alert-body" },
      h("p", { class: "alert-text" }, row.text), isCause ? null : h("p", { class: "cause" }, `Cause: ${cause.text}`),
      h("p", { class: "muted" }, about.filter((part) => part).join(" · "))),
    h("span", { class: "alert-time" }, `for ${span(row.for_ms)}`), age(row.age_ms));
}

/** Alerts with one cause: the cause, and how many alerts it explains. */
function incidents(data) {
  const rows = data.rows("incidents");
  if (rows.length === 0) return empty("No incident.");
  return h("ul", { class: "alerts" }, rows.map((row) => h("li", { key: row.incident, class: "alert" },
    pill(row.severity, SEVERITIES[row.severity] ?? "info"),
    h("div", { class: "alert-body" },
      h("p", { class: "cause" }, row.text),
      h("p", { class: "muted" }, `${row.rule} · ${row.subject} · ${row.firing === 1 ? "one alert" : `explains ${row.firing} alerts`} · ${row.number === 1 ? "told once" : `told ${row.number} times`}`)),
    h("span", { class: "alert-time" }, `for ${span(row.for_ms)}`))));
}

/** How many workers each pool should have. */
function scaling(data) {
  const rows = data.rows("scaling");
  if (rows.length === 0) return empty("No pool of workers is known.");
  return table("Scaling", [
    { head: "pool", cell: (row) => row.pool },
    { head: "workers", right: true, cell: (row) => grouped(row.current) },
    { head: "wanted", right: true, cell: (row) => h("strong", {}, grouped(row.desired)) },
    { head: "bounds", right: true, rank: 1, cell: (row) => `${row.least}–${row.most}` },
    { head: "slots", right: true, rank: 1, cell: (row) => `${count(row.running)} of ${count(row.slots)}` },
    { head: "forecast", right: true, rank: 1, cell: (row) => count(row.forecast), title: "Slots wanted when a worker that is started now is of use" },
    { head: "why", rank: 2, cell: (row) => words(row.why || NOTHING) },
    { head: "age", right: true, cell: (row) => age(row.age_ms) },
  ], rows, (row) => row.pool);
}

function budgets(data) {
  const rows = data.rows("budgets");
  if (rows.length === 0) return empty("No budgets are known.");
  const byBudget = grouping(rows, (row) => row.budget);
  return h("div", { class: "budgets" },
    legend([["used", "used"], ["reserved", "in flight"], ["foreign", "by others"]], "The ticks are the target, 85 to 95 %."),
    [...byBudget].map(([name, limits]) => budget(name, limits, data)));
}

function budget(name, limits, data) {
  const waiting = limits[0].waiting, isIdle = limits.every((row) => !row.used && !row.in_flight);
  return h("article", { class: `budget ${isIdle && !waiting ? "idle" : ""}`, key: name },
    h("header", {}, h("h3", {}, name), waiting ? pill(`${grouped(waiting)} waiting`, "warn") : null, age(limits[0].age_ms)),
    limits.map((row) => limit(row)),
    holders(name, data));
}

function limit(row) {
  const say = row.dimension.startsWith("usd_micros") ? money : count;
  const per = row.window_ms ? ` / ${windowOf(row.window_ms)}` : "";
  const filled = share(row.used, row.limit) ?? 0;
  const settled = Math.max(0, row.used - row.in_flight - row.foreign);
  const what = `${words(row.dimension).replace("usd micros", "dollars")}${per}`;
  return h("div", { class: "limit", key: row.dimension },
    h("span", { class: "limit-name" }, what),
    stack([
      { kind: "used", amount: settled, label: `used ${say(settled)}` },
      { kind: "reserved", amount: Math.min(row.in_flight, row.used), label: `in flight ${say(row.in_flight)}` },
      { kind: "foreign", amount: row.foreign, label: `by others ${say(row.foreign)}` },
    ], row.limit, `${what}: ${percent(filled)} of ${say(row.limit)}`, row.window_ms ? [850, 950] : []),
    h("span", { class: `limit-share ${filled > 990 ? "bad" : filled > 955 ? "warn" : ""}` }, percent(filled)),
    h("span", { class: "limit-numbers" }, `${say(row.used)} of ${say(row.limit)}`));
}

/** Who holds what of a budget: asked for when somebody opens it. */
function holders(name, data) {
  const isOpen = data.isOpen(`holders/${name}`);
  const told = isOpen ? data.told("holders", name) : null;
  return h("details", { class: "holders", open: isOpen, ontoggle: (event) => data.open(`holders/${name}`, event.currentTarget.open) },
    h("summary", {}, "By agent"),
    !isOpen ? null : told === null || told.reply === null ? empty("Not told (yet).") : told.reply.holders.length === 0 ? empty("Nobody holds anything of it now.") : table(`Agents of ${name}`, [
      { head: "agent", cell: (row) => row.principal },
      { head: "in flight", right: true, cell: (row) => grouped(row.reservations) },
      { head: "reserved", right: true, cell: (row) => amounts(row.reserved, ["requests", "concurrent"]) },
      { head: "leased", right: true, rank: 1, cell: (row) => amounts(row.leased) },
      { head: "used", right: true, rank: 1, cell: (row) => amounts(row.used) },
      { head: "age", right: true, cell: () => age(told.age_ms) },
    ], told.reply.holders, (row) => row.principal));
}

function amounts(by, without = []) {
  const told = Object.entries(by ?? {}).filter(([name, amount]) => amount && !without.includes(name));
  return told.length ? told.map(([name, amount]) => `${name === "usd_micros" ? money(amount) : `${count(amount)} ${words(name)}`}`).join(", ") : NOTHING;
}

function circuits(data) {
  const rows = data.rows("circuits");
  if (rows.length === 0) return empty("No circuits yet: they appear when agents report.");
  const kinds = { open: "bad", forced_open: "bad", half_open: "warn", ramping: "warn", closed: "ok" };
  const order = ["open", "forced_open", "half_open", "ramping"];
  const sorted = [...rows].sort((one, other) => (order.indexOf(other.state) >= 0) - (order.indexOf(one.state) >= 0) || one.target.localeCompare(other.target));
  return table("Circuits", [
    { head: "target", cell: (row) => row.target },
    { head: "state", cell: (row) => pill(row.state, kinds[row.state] ?? "info") },
    { head: "failures", right: true, cell: (row) => percent(row.failures_permille) },
    { head: "calls", right: true, rank: 1, cell: (row) => count(row.calls) },
    { head: "next try", right: true, rank: 1, cell: (row) => (row.retry_in_ms === null ? NOTHING : span(row.retry_in_ms)) },
    { head: "why", rank: 2, cell: (row) => row.cause || NOTHING },
    { head: "age", right: true, cell: (row) => age(row.age_ms) },
  ], sorted, (row) => row.target, (row) => (row.state === "closed" ? "calm" : ""));
}

function gpus(data) {
  const rows = data.rows("devices"), told = data.told("gpus"), pieces = data.told("fragmentation");
  if (rows.length === 0) return empty("No cards: run bursar-gpu-node on hosts that have some, or bursar up --gpus 2x24GiB.");
  const known = new Map((told?.reply?.devices ?? []).map((device) => [device.uuid, device]));
  const leases = told?.reply?.leases ?? [];
  const holders = [...new Set(leases.map((lease) => lease.principal))].sort();
  return h("div", {},
    legend([["lease", "leases"], ["foreign", "foreign"], ["kept", "kept back"]], fragmentation(pieces)),
    h("div", { class: "cards" }, rows.slice(0, 48).map((row) => card(row, known.get(row.device), leases, holders))),
    rows.length > 48 ? empty(`${rows.length - 48} more cards are in the metrics.`) : null);
}

function fragmentation(pieces) {
  const classes = pieces?.reply?.classes;
  if (!classes?.length) return "";
  const size = pieces.reply.size, at = classes.find((one) => one.size === size) ?? classes.at(-1);
  return `Fragmentation ${percent(at.fragmentation / 1000, 1)}: so much of the ${bytes(pieces.reply.free)} that is free is in pieces below ${bytes(size)}.`;
}

function card(row, device, leases, holders) {
  const mine = leases.filter((lease) => device && lease.devices.includes(device.device));
  const foreign = device?.foreign ?? 0, kept = device?.reserved ?? 0;
  const parts = mine.map((lease) => ({ kind: "lease", amount: Math.max(lease.memory, lease.observed ?? 0), text: lease.principal, label: `${lease.principal}: ${bytes(lease.memory)} for ${lease.purpose}`, style: { background: hue(holders.indexOf(lease.principal)) } }));
  if (!mine.length && row.granted_bytes) parts.push({ kind: "used", amount: row.granted_bytes, label: `granted ${bytes(row.granted_bytes)}` });
  parts.push({ kind: "foreign", amount: foreign, label: `foreign ${bytes(foreign)}` }, { kind: "kept", amount: kept, label: `kept back ${bytes(kept)}` });
  const kind = { lost: "bad", silent: "warn", cordoned: "warn" }[row.state] ?? "ok";
  return h("article", { class: "card", key: `${row.host}/${row.device}` },
    h("header", {}, h("h3", { title: row.device }, row.name || row.device.slice(0, 12)), pill(row.state, kind), age(row.age_ms)),
    h("p", { class: "muted" }, `${row.host} · ${row.device.slice(0, 16)}`),
    stack(parts, row.total_bytes ?? 1, `${bytes(row.granted_bytes)} of ${bytes(row.total_bytes)} granted to ${row.leases ?? 0} leases, ${bytes(foreign)} foreign`),
    h("dl", { class: "facts" },
      fact("granted", bytes(row.granted_bytes), ` of ${bytes(row.total_bytes)}`), fact("in use", bytes(row.observed_bytes)), fact("foreign", bytes(device?.foreign ?? null)),
      fact("busy", percent(row.busy_permille)), fact("temperature", row.temperature_c === null ? NOTHING : `${row.temperature_c} °C`, device?.heat && device.heat !== "ok" ? ` ${device.heat}` : "")));
}

function scheduler(data) {
  const queues = data.rows("queues"), workers = data.rows("workers"), told = data.told("scheduler")?.reply;
  if (queues.length === 0 && workers.length === 0) return empty("The scheduler has not been heard.");
  const most = Math.max(1, ...queues.map((row) => row.waiting + row.running));
  return h("div", { class: "columns" },
    h("div", {}, h("h3", { class: "sub" }, "Queue by band"), queues.map((row) => h("div", { class: "limit", key: row.queue },
      h("span", { class: "limit-name" }, words(row.queue)),
      stack([{ kind: "used", amount: row.running, label: `${row.running} running` }, { kind: "waiting", amount: row.waiting, label: `${row.waiting} waiting` }], most, `${row.queue}: ${row.waiting} waiting, ${row.running} running`),
      h("span", { class: "limit-share" }, count(row.waiting)), h("span", { class: "limit-numbers" }, `${count(row.running)} running`, row.oldest_ms ? `, oldest ${span(row.oldest_ms)}` : ""))),
      queues.length ? h("p", { class: "muted right" }, age(queues[0].age_ms)) : null,
      groups(told, "programs", "By program"), groups(told, "classes", "By class")),
    h("div", {}, h("h3", { class: "sub" }, `Workers (${workers.length})`), workers.length === 0 ? empty("No worker has registered.") : table("Workers", [
      { head: "worker", cell: (row) => row.worker },
      { head: "kind", rank: 1, cell: (row) => row.kind },
      { head: "state", cell: (row) => pill(row.state, row.state === "up" ? "ok" : "warn") },
      { head: "slots", cell: (row) => slots(row) },
      { head: "heard", right: true, cell: (row) => age(row.heard_ms === null ? row.age_ms : row.heard_ms + (row.age_ms ?? 0)) },
    ], workers.slice(0, 60), (row) => row.worker)));
}

function slots(row) {
  const total = row.slots ?? 0, used = row.running ?? 0;
  if (total > 24) return h("span", {}, `${used} / ${total}`);
  return h("span", { class: "slots", role: "img", "aria-label": `${used} of ${total} slots taken` }, Array.from({ length: total }, (_, index) => h("i", { class: index < used ? "taken" : "" })));
}

function groups(told, field, title) {
  const found = Object.entries(told?.[field] ?? {}).filter(([, counts]) => counts.waiting || counts.running);
  if (found.length === 0) return null;
  return [h("h3", { class: "sub" }, title), table(title, [
    { head: field === "programs" ? "program" : "class", cell: ([name]) => name },
    { head: "waiting", right: true, cell: ([, counts]) => count(counts.waiting ?? 0) },
    { head: "running", right: true, cell: ([, counts]) => count(counts.running ?? 0) },
  ], found.slice(0, 20), ([name]) => name)];
}

function services(data) {
  const rows = data.rows("instances"), known = data.rows("services");
  const silent = known.filter((row) => !row.owner);
  return h("div", {}, silent.length ? h("p", { class: "note bad" }, `Nobody decides for: ${silent.map((row) => row.name).join(", ")}.`) : null,
    table("Instances of the services", [
      { head: "instance", cell: (row) => row.instance },
      { head: "role", cell: (row) => (row.age_ms >= 5000 ? pill("gone", "bad") : row.owner ? pill("owner", "ok") : pill("standby")) },
      { head: "requests", right: true, rank: 1, cell: (row) => count(row.requests) },
      { head: "errors", right: true, cell: (row) => count(row.errors) },
      { head: "p50", right: true, rank: 1, cell: (row) => latency(row.p50_us) },
      { head: "p99", right: true, cell: (row) => latency(row.p99_us) },
      { head: "memory", right: true, rank: 2, cell: (row) => bytes(row.rss_bytes) },
      { head: "age", right: true, cell: (row) => age(row.age_ms) },
    ], rows, (row) => `${row.service}/${row.instance}`, (row) => (row.owner ? "" : "calm")));
}

function objectives(data) {
  const rows = data.rows("slos");
  if (rows.length === 0) return empty("No objectives.");
  return table("Objectives", [
    { head: "objective", cell: (row) => (row.subject ? `${row.slo} · ${row.subject}` : row.slo) },
    { head: "wanted", right: true, rank: 1, cell: (row) => `${Number((row.objective_ppm / 1e4).toPrecision(5))} %` },
    { head: "error budget left", cell: (row) => h("span", { class: "with-bar" }, bar(Math.max(0, row.left_permille ?? 0), row.left_permille !== null && row.left_permille < 100 ? "bad" : row.left_permille < 400 ? "warn" : "", `${percent(row.left_permille)} of the error budget is left`), h("span", {}, percent(row.left_permille))) },
    { head: "p95", right: true, rank: 1, cell: (row) => (row.p95_ms === null || row.p95_ms === undefined ? NOTHING : latency(row.p95_ms * 1000)) },
    { head: "burn 1 h", right: true, cell: (row) => rate(row.burn_1h) },
    { head: "burn 6 h", right: true, rank: 1, cell: (row) => rate(row.burn_6h) },
    { head: "burn 1 d", right: true, rank: 2, cell: (row) => rate(row.burn_1d) },
    { head: "readings", right: true, rank: 2, cell: (row) => count(row.good + row.bad) },
  ], rows, (row) => `${row.slo}/${row.subject}`);
}

const rate = (milli) => (milli === null || milli === undefined ? NOTHING : h("span", { class: milli >= 6000 ? "bad" : milli >= 1000 ? "warn" : "" }, `${(milli / 1000).toFixed(1)}×`));

function legend(parts, more = "") {
  return h("p", { class: "legend" }, parts.map(([kind, label]) => h("span", {}, h("i", { class: `swatch part-${kind}`, "aria-hidden": "true" }), label)), more ? h("span", { class: "legend-more" }, more) : null);
}

function grouping(rows, key) {
  const found = new Map();
  for (const row of rows) {
    const name = key(row);
    if (found.has(name)) found.get(name).push(row);
    else found.set(name, [row]);
  }
  return found;
}

/** In the order of the page. `wide`: takes the whole width. Sections that no panel names get a plain table. */
export const PANELS = [
  { id: "alerts", title: "Alerts", sections: ["alerts", "incidents"], draw: alerts },
  { id: "budgets", title: "Budgets", sections: ["budgets"], draw: budgets },
  { id: "circuits", title: "Circuits", sections: ["circuits"], draw: circuits },
  { id: "gpus", title: "GPUs", sections: ["devices"], asks: ["gpus", "fragmentation"], draw: gpus, wide: true },
  { id: "scheduler", title: "Scheduler", sections: ["queues", "workers"], asks: ["scheduler"], draw: scheduler, wide: true },
  { id: "hosts", title: "Hosts", sections: ["hosts"], wide: true },
  { id: "services", title: "Services", sections: ["services", "instances"], draw: services },
  { id: "cost", title: "Cost and savings", sections: ["costs", "savings", "budgets"], draw: cost, isUncounted: true, wide: true },
  { id: "incidents", title: "Incidents", sections: ["incidents"], draw: incidents, optional: "incidents" },
  { id: "scaling", title: "Scaling", sections: ["scaling"], draw: scaling, optional: "scaling" },
  { id: "advice", title: "Right-sizing", sections: ["advice"], draw: advice, optional: "advice", isUncounted: true },
  { id: "quotas", title: "Host quotas", sections: ["leases", "pools", "processes"], draw: quotas, optional: "leases", wide: true },
  { id: "objectives", title: "Objectives", sections: ["slos"], draw: objectives, optional: "slos" },
];

export const NAMED = new Set([...PANELS.flatMap((panel) => panel.sections), "rules", "silences"]);

/** A panel for a section that this page has no picture of its own for. */
export function panelOf(section) {
  return { id: section.replaceAll("_", "-"), title: words(section).replace(/^./, (letter) => letter.toUpperCase()), sections: [section], draw: (data) => plain(section, data.rows(section)) };
}
