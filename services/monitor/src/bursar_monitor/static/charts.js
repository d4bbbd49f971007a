// Small pictures of numbers. Each says in words, too, what it shows; colour alone never carries a meaning.

import { h } from "./vdom.js";
import { percent } from "./format.js";

/** The last minutes of one number. `points`: numbers or null; a gap stays a gap. */
export function spark(points, label, top) {
  const known = points.filter((value) => value !== null && value !== undefined);
  if (known.length < 2) return h("svg", { class: "spark", viewBox: "0 0 100 28", "aria-hidden": "true" });
  const high = Math.max(top ?? 0, ...known, 1);
  const low = Math.min(0, ...known);
  const step = 100 / (points.length - 1);
  const at = (value, index) => `${(index * step).toFixed(1)} ${(26 - ((value - low) / (high - low)) * 24).toFixed(1)}`;
  const runs = runsOf(points);
  const line = runs.map((run) => `M${run.map(([index, value]) => at(value, index)).join("L")}`).join("");
  const area = runs.map((run) => {
    const first = (run[0][0] * step).toFixed(1), last = (run.at(-1)[0] * step).toFixed(1);
    return `M${first} 28L${run.map(([index, value]) => at(value, index)).join("L")}L${last} 28Z`;
  }).join("");
  return h("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", role: "img", "aria-label": label },
    h("path", { class: "spark-area", d: area }), h("path", { class: "spark-line", d: line }));
}

function runsOf(points) {
  const runs = [];
  let run = [];
  points.forEach((value, index) => {
    if (value === null || value === undefined) {
      if (run.length > 1) runs.push(run);
      run = [];
    } else run.push([index, value]);
  });
  if (run.length > 1) runs.push(run);
  return runs;
}

/** A share of a whole in parts: [{ kind, amount, label }]; `marks`: places in thousandths that are drawn as ticks. */
export function stack(parts, whole, label, marks = []) {
  const room = Math.max(whole, parts.reduce((sum, part) => sum + part.amount, 0), 1);
  return h("div", { class: "stack", role: "img", "aria-label": label },
    parts.filter((part) => part.amount > 0).map((part) => h("span", {
      class: `part part-${part.kind}`, title: part.label, style: { width: `${(part.amount / room) * 100}%`, ...part.style },
    }, part.text ?? "")),
    marks.map((mark) => h("i", { class: "mark", style: { left: `${mark / 10}%` } })));
}

/** A plain bar; `state`: "", warn or bad. */
export function bar(permille, state = "", label = "") {
  const width = permille === null || permille === undefined ? 0 : Math.min(1000, permille) / 10;
  return h("div", { class: `stack slim ${state}`, role: "img", "aria-label": label || percent(permille) },
    h("span", { class: "part part-used", style: { width: `${width}%` } }));
}

/** The colour of the so-manieth of several: eight that differ in both themes. */
export function hue(index) {
  return `var(--hue-${index % 8})`;
}

/** Every host as one square, on a canvas: a thousand of them are one picture. `cells`: [{ level: 0..1 | null }]. */
export function drawMap(canvas, cells, colours) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const size = cells.length > 600 ? 11 : cells.length > 150 ? 15 : 22;
  const columns = Math.max(1, Math.floor(width / size));
  const height = Math.max(size, Math.ceil(cells.length / columns) * size);
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const brush = canvas.getContext("2d");
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, width, height);
  cells.forEach((cell, index) => {
    const x = (index % columns) * size, y = Math.floor(index / columns) * size;
    brush.fillStyle = cell.level === null ? colours.silent : colours.scale[Math.min(colours.scale.length - 1, Math.floor(cell.level * colours.scale.length))];
    brush.beginPath();
    brush.roundRect(x, y, size - 2, size - 2, 2);
    brush.fill();
  });
  return { columns, size };
}
