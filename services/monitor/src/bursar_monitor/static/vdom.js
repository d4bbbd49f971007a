// Elements as values, and the least change that makes the page show them.
//
//   paint(place, h("p", { class: "note" }, "text"), ...)
//
// What is the same stays as it is, with its focus, its selection and its scroll position. Children that have a `key`
// keep their element wherever they go. Text is always text: nothing here reads markup.

const SVG = new Set(["svg", "path", "rect", "line", "circle", "g", "title", "polyline", "text"]);
const NAMESPACE = "http://www.w3.org/2000/svg";

/** An element: a name, its attributes (`on...` are listeners, `style` an object), its children (strings or elements). */
export function h(tag, attributes, ...children) {
  const { key, ...rest } = attributes ?? {};
  return { tag, key, attributes: rest, children: children.flat(Infinity).filter((child) => child != null && child !== false) };
}

/** Make `place` contain these children and nothing else. */
export function paint(place, ...children) {
  reconcile(place, children.flat(Infinity).filter((child) => child != null && child !== false));
}

function reconcile(place, wanted) {
  const keyed = new Map();
  for (const node of place.childNodes) if (node.bursarKey !== undefined) keyed.set(node.bursarKey, node);
  let at = place.firstChild;
  for (const item of wanted) {
    let node = matching(item, at, keyed);
    if (node === null) node = make(item);
    if (node === at) at = at.nextSibling;
    else place.insertBefore(node, at);
    update(node, item);
  }
  while (at !== null) {
    const next = at.nextSibling;
    place.removeChild(at);
    at = next;
  }
}

function matching(item, at, keyed) {
  if (typeof item === "object" && item.key !== undefined) {
    const node = keyed.get(item.key);
    return node !== undefined && isAlike(node, item) ? node : null;
  }
  return at !== null && at.bursarKey === undefined && isAlike(at, item) ? at : null;
}

function isAlike(node, item) {
  if (typeof item !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === item.tag;
}

function make(item) {
  if (typeof item !== "object") return document.createTextNode("");
  const node = SVG.has(item.tag) ? document.createElementNS(NAMESPACE, item.tag) : document.createElement(item.tag);
  node.bursarKey = item.key;
  node.bursarSaid = {};
  return node;
}

function update(node, item) {
  if (typeof item !== "object") {
    if (node.data !== String(item)) node.data = String(item);
    return;
  }
  const before = node.bursarSaid ?? {};
  for (const name of Object.keys(before)) if (!(name in item.attributes)) say(node, name, null, before[name]);
  for (const [name, value] of Object.entries(item.attributes)) {
    if (name === "style" || before[name] !== value) say(node, name, value, before[name]);
  }
  node.bursarSaid = item.attributes;
  if (!item.attributes.own) reconcile(node, item.children);
}

function say(node, name, value, before) {
  if (name.startsWith("on")) {
    node[name] = value;
  } else if (name === "style") {
    for (const [property, said] of Object.entries(value ?? {})) {
      if (!before || before[property] !== said) node.style.setProperty(property, said);
    }
  } else if (name === "value" || name === "checked" || name === "open") {
    node[name] = value ?? "";
  } else if (name !== "own") {
    if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}
