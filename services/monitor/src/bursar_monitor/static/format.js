// Numbers as people read them. What is not known is a dash, never 0.

export const NOTHING = "–";
export const FRESH_MS = 4000;
export const OLD_MS = 15000;

const isKnown = (value) => value !== null && value !== undefined;

/** 1234567 as 1.23M. */
export function count(value) {
  if (!isKnown(value)) return NOTHING;
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= (unit === "k" ? 1e4 : size)) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return grouped(value);
}

/** Every digit, in groups of three. */
export function grouped(value) {
  return isKnown(value) ? value.toLocaleString("en") : NOTHING;
}

/** Bytes, in powers of 1024. */
export function bytes(value) {
  if (!isKnown(value)) return NOTHING;
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (Math.abs(value) >= size) return `${(value / size).toFixed(Math.abs(value) < 10 * size ? 1 : 0)} ${unit}`;
  }
  return `${value} B`;
}

export function percent(permille, digits = 0) {
  return isKnown(permille) ? `${(permille / 10).toFixed(digits)} %` : NOTHING;
}

export function latency(us) {
  if (!isKnown(us)) return NOTHING;
  return us < 1e6 ? `${Number((us / 1e3).toPrecision(3))} ms` : `${Number((us / 1e6).toPrecision(3))} s`;
}

/** A time, as short as it can be said. */
export function span(ms) {
  if (!isKnown(ms)) return NOTHING;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

/** The length of a window, as it was configured. */
export function windowOf(ms) {
  for (const [unit, size] of [["d", 864e5], ["h", 36e5], ["min", 6e4], ["s", 1e3]]) {
    if (ms % size === 0) return ms === size ? unit : `${ms / size} ${unit}`;
  }
  return `${ms} ms`;
}

export function money(micros) {
  if (!isKnown(micros)) return NOTHING;
  return `$${(micros / 1e6).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

/** Money that may be less than a cent, with as many digits as say something; losses have their sign. */
export function dollars(micros) {
  if (!isKnown(micros)) return NOTHING;
  const digits = Math.abs(micros) >= 1e6 || micros === 0 ? 2 : Math.abs(micros) >= 100 ? 4 : 6;
  const amount = (Math.abs(micros) / 1e6).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${micros < 0 ? "−" : ""}$${amount}`;
}

/** snake_case as words. */
export const words = (text) => String(text).replaceAll("_", " ").replaceAll("-", " ");

/** The age of a number: "now" below a second. */
export function ageText(ms) {
  return ms < 1000 ? "now" : ms < 10000 ? `${Math.floor(ms / 1000)} s` : span(ms);
}

/** How old: "" fresh, "stale" from 4 s on, "old" from 15 s on or when it was never heard. */
export function staleness(ms) {
  if (!isKnown(ms) || ms >= OLD_MS) return "old";
  return ms >= FRESH_MS ? "stale" : "";
}

/** A value of a field, by what its name says of its unit. */
export function byName(name, value) {
  if (!isKnown(value) || value === "") return NOTHING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value === "string") return value;
  if (name.endsWith("_permille")) return percent(value, value < 100 ? 1 : 0);
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_bytes_per_s")) return `${bytes(value)}/s`;
  if (name.endsWith("_micros")) return money(value);
  if (name.endsWith("_us")) return latency(value);
  if (name.endsWith("_at_ms")) return grouped(value);
  if (name.endsWith("_ms")) return span(value);
  if (name.endsWith("_milli")) return (value / 1000).toFixed(2);
  return count(value);
}
