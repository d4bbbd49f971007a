// The first look: one sentence, and a tile for each thing that runs out.

import { h } from "./vdom.js";
import { spark } from "./charts.js";
import { age, pill } from "./parts.js";
import { bytes, count, grouped, latency, percent, span, words } from "./format.js";

const many = (number, one, more = `${one}s`) => `${grouped(number)} ${number === 1 ? one : more}`;

/** The sentence above everything: what needs a person, or that nothing does. */
export function headline(state) {
  const view = state.view;
  if (state.link === "lost") return say("bad", "No connection to the monitor", view ? "What you see is the last that was heard. Trying again." : "Trying again.");
  if (view === undefined) return say("", "Connecting", "Waiting for the first picture.");
  if (view === null) return say("warn", "This instance stands by", "Another instance of the monitor decides; its page has the picture.");
  const { critical, warning, silenced } = view.alerts; // silenced: or muted by another alert
  const quiet = silenced ? `${many(silenced, "alert")} silenced or muted.` : "";
  if (critical) return say("bad", many(critical, "critical alert"), [warning ? `and ${many(warning, "warning")}.` : "", quiet].join(" "));
  if (warning) return say("warn", many(warning, "warning"), quiet);
  const missing = view.services.without_owner;
  if (missing.length) return say("warn", `No owner: ${missing.join(", ")}`, "Nobody decides there now.");
  return say("ok", "All quiet", `${many(view.services.total, "service")}, ${many(view.hosts.total, "host")}, ${many(view.budgets.total, "budget")}: nothing needs you. ${quiet}`);
}

const say = (kind, title, more) => h("div", { class: `headline ${kind}` }, h("span", { class: "lamp", "aria-hidden": "true" }), h("div", {}, h("p", { class: "headline-title" }, title), h("p", { class: "headline-more" }, more)));

/** What fires, the worst first: causes, and how many other alerts each explains. */
export function firing(state) {
  const alerts = state.view?.alerts.first ?? [];
  return alerts.slice(0, 3).map((alert) => h("li", { key: alert.alert },
    pill(alert.severity, alert.severity === "critical" ? "bad" : alert.severity === "warning" ? "warn" : "info"),
    h("span", { class: "firing-text" }, alert.text, alert.explains ? h("span", { class: "muted" }, ` ${many(alert.explains, "more alert")} with it`) : null), h("span", { class: "muted" }, `for ${span(alert.for_ms)}`)));
}

/** The tiles. `curves`: the last minutes by name. */
export function tiles(state, curves) {
  const view = state.view;
  if (!view) return Array.from({ length: 8 }, (_, index) => h("div", { class: "tile waiting", key: `w${index}` }));
  const { hosts, budgets, circuits, devices, tasks, services } = view;
  const memory = hosts.memory_total_bytes ? Math.round((hosts.memory_used_bytes * 1000) / hosts.memory_total_bytes) : null;
  const granted = devices.total_bytes ? Math.round((devices.granted_bytes * 1000) / devices.total_bytes) : null;
  const rate = state.requestRate;
  return [
    tile("cpu", "CPU", percent(hosts.cpu_permille), band(hosts.cpu_permille, 700, 850, "target 70–85 %"), curves.cpu, 1000, hosts.age_ms,
      hosts.silent ? ["bad", `${many(hosts.silent, "host")} silent`] : ["", `median of ${many(hosts.total, "host")}`], "hosts"),
    tile("memory", "Memory", percent(memory), [memory >= 900 ? "warn" : "", `${bytes(hosts.memory_used_bytes)} of ${bytes(hosts.memory_total_bytes)}`], curves.memory, 1000, hosts.age_ms, ["", "of all hosts"], "hosts"),
    tile("budget", "Fullest limit", percent(budgets.fullest_permille), band(budgets.fullest_permille, 850, 950, "target 85–95 %"), curves.budget, 1000, budgets.age_ms,
      budgets.waiting ? ["warn", `${many(budgets.waiting, "call")} waiting`] : ["", budgets.fullest ?? "no budgets"], "budgets"),
    tile("gpu", "GPU memory", devices.total ? percent(granted) : "none", [devices.lost ? "bad" : "", devices.total ? `${bytes(devices.granted_bytes)} of ${bytes(devices.total_bytes)} granted` : "no cards are known"], curves.gpu, 1000, devices.age_ms,
      devices.lost ? ["bad", `${many(devices.lost, "card")} lost`] : ["", devices.total ? `${many(devices.total, "card")}, ${many(devices.leases ?? 0, "lease")}` : ""], "gpus"),
    tile("tasks", "Tasks waiting", count(tasks.waiting), ["", `${count(tasks.running)} running`], curves.waiting, 10, tasks.age_ms,
      tasks.dead ? ["warn", `${many(tasks.dead, "dead letter")}`] : ["", `${many(tasks.workers, "worker")}, ${count(tasks.slots)} slots`], "scheduler"),
    tile("circuits", "Circuits open", circuits.total ? `${circuits.open}` : "none", [circuits.open ? "bad" : "", circuits.total ? `of ${circuits.total}` : "no circuits are known"], curves.open, 2, circuits.age_ms,
      circuits.half_open || circuits.ramping ? ["warn", `${circuits.half_open + circuits.ramping} recovering`] : ["", circuits.open ? "calls go elsewhere" : "all calls pass"], "circuits"),
    tile("p99", "Coordination p99", latency(services.p99_us), [services.p99_us >= 100000 ? "bad" : "", "target < 100 ms"], curves.p99, 10000, services.age_ms,
      services.without_owner.length ? ["bad", `no owner: ${services.without_owner.join(", ")}`] : ["", "the slowest verb"], "services"),
    tile("requests", "Decisions", rate === null ? count(services.requests) : `${count(Math.round(rate))}`, ["", rate === null ? "since start" : "per second"], curves.rate, 1, services.age_ms,
      services.errors ? ["", `${count(services.errors)} errors so far`] : ["", "no errors"], "services"),
  ];
}

function band(value, low, high, text) {
  if (value === null || value === undefined) return ["", text];
  if (value > high) return ["warn", `above ${text}`];
  return ["", value < low ? `below ${text}` : `in ${text}`];
}

function tile(key, label, value, [kind, more], curve, top, ms, [noteKind, note], target) {
  return h("a", { class: `tile ${kind}`, key, href: `#${target}` },
    h("span", { class: "tile-head" }, h("span", { class: "tile-label" }, label), age(ms)),
    h("span", { class: "tile-value" }, value),
    h("span", { class: "tile-more" }, more),
    h("span", { class: `tile-note ${noteKind}` }, words(note)),
    curve ? spark(curve, `${label}, the last minutes`, top) : null);
}
