// Where the numbers come from: one stream of server-sent events, and sections that are fetched while somebody sees them.
//
// Everything is kept with the moment at which it came, so that ages grow here between two pictures, and go on growing
// when the server is away. A stream that has broken off is tried again, at first after half a second.

const LONGEST_MS = 5000;
const SILENCE_MS = 12000; // the server says that it is alive every five seconds

export class Source {
  /** `changed(what)` is called with every news: "link", "view", or the name of a section. */
  constructor(changed) {
    this.changed = changed;
    this.link = "connecting";
    this.view = undefined; // null: this instance has no picture
    this.version = 0;
    this.heardAt = 0;
    this.later = 0;
    this.instance = "";
    this.history = [];
    this.tables = new Map();
    this.answers = new Map();
    this.busy = new Set();
    this.pause = 500;
    this.stream = null;
    this.failed = "";
  }

  open() {
    this.close();
    const stream = (this.stream = new EventSource("/stream"));
    stream.addEventListener("hello", (event) => this.hello(JSON.parse(event.data)));
    stream.addEventListener("overview", (event) => this.heard(JSON.parse(event.data)));
    stream.addEventListener("beat", () => this.watch());
    stream.onerror = () => this.lose();
    this.watch();
  }

  close() {
    clearTimeout(this.again);
    clearTimeout(this.patience);
    this.stream?.close();
    this.stream = null;
  }

  watch() {
    clearTimeout(this.patience);
    this.patience = setTimeout(() => this.lose(), SILENCE_MS);
  }

  lose() {
    this.close();
    this.link = "lost";
    this.changed("link");
    this.again = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(LONGEST_MS, this.pause * 1.6);
    this.checkToken();
  }

  /** A server that is there and does not know the token (any more) has a form for it. */
  async checkToken() {
    try {
      if ((await fetch("/panel/alerts")).status === 401) location.reload();
    } catch {
      // it is not there
    }
  }

  hello({ instance, build, history }) {
    if (build !== document.documentElement.dataset.build) return void location.reload();
    this.instance = instance;
    this.history = history.points.map((values) => Object.fromEntries(history.names.map((name, index) => [name, values[index]])));
    this.pause = 500;
  }

  heard({ version, later_ms: later, view }) {
    Object.assign(this, { version, later, view, heardAt: performance.now(), link: "live" });
    if (view !== null) this.remember(view);
    this.watch();
    this.changed("view");
  }

  remember({ now_ms: at, hosts, budgets, devices, tasks, services }) {
    if (this.history.at(-1)?.at === at) return;
    const share = (part, whole) => (part === null || !whole ? null : Math.round((part * 1000) / whole));
    this.history.push({
      at, cpu: hosts.cpu_permille, memory: share(hosts.memory_used_bytes, hosts.memory_total_bytes), budget: budgets.fullest_permille,
      gpu: share(devices.granted_bytes, devices.total_bytes), waiting: tasks.waiting, running: tasks.running, requests: services.requests, open: this.view.circuits.open, p99: services.p99_us,
    });
    if (this.history.length > 300) this.history.shift();
  }

  /** Requests per second, over the last ten seconds; null when it is not known. */
  get requestRate() {
    const last = this.history.at(-1), before = this.history.at(-11) ?? this.history[0];
    return rateOf(before, last);
  }

  /** The small curves, by name. */
  get curves() {
    const points = this.history.slice(-150);
    const named = (name) => points.map((point) => point[name]);
    return { cpu: named("cpu"), memory: named("memory"), budget: named("budget"), gpu: named("gpu"), waiting: named("waiting"), open: named("open"), p99: named("p99"), rate: points.slice(1).map((point, index) => rateOf(points[index], point)) };
  }

  /** Fetch a section unless it is there for this picture already, or on its way. */
  async fetchSection(section) {
    if (this.view === null || this.tables.get(section)?.version === this.version) return;
    const isThere = await this.fetchOnce(`/panel/${section}`, ({ version, later_ms: later, table }) => {
      const rows = (table?.rows ?? []).map((values) => Object.fromEntries(table.columns.map((name, index) => [name, values[index]])));
      this.tables.set(section, { version, rows, later, at: performance.now() });
      this.changed(section);
    });
    if (isThere && this.tables.get(section).version < this.version) this.fetchSection(section); // there was news meanwhile
  }

  /** Ask a service through the monitor, which asks at most once in a second or so. */
  fetchAnswer(question, about = "") {
    const key = about ? `${question}?about=${encodeURIComponent(about)}` : question;
    this.fetchOnce(`/ask/${key}`, (answer) => {
      this.answers.set(key, { ...answer, at: performance.now() });
      this.changed(question);
    });
  }

  /** True when it came; false when it is on its way already, or did not come. */
  async fetchOnce(path, then) {
    if (this.busy.has(path) || this.link === "lost") return false;
    this.busy.add(path);
    try {
      const answer = await fetch(path, { headers: { Accept: "application/json" } });
      if (!answer.ok) return false;
      then(await answer.json());
      return true;
    } catch {
      return false; // the stream notices when the server has gone, and says so
    } finally {
      this.busy.delete(path);
    }
  }

  /** Rows of a section with their ages as of now. */
  rows(section) {
    const table = this.tables.get(section);
    if (table === undefined) return [];
    const more = Math.round(performance.now() - table.at + table.later);
    return table.rows.map((row) => ("age_ms" in row && row.age_ms !== null ? { ...row, age_ms: row.age_ms + more } : row));
  }

  has(section) {
    return this.tables.has(section);
  }

  /** The last answer of a service to a question; null when there is none. */
  told(question, about = "") {
    const answer = this.answers.get(about ? `${question}?about=${encodeURIComponent(about)}` : question);
    if (answer === undefined) return null;
    return { reply: answer.reply, age_ms: answer.age_ms === null ? null : Math.round(answer.age_ms + performance.now() - answer.at) };
  }

  /** The overview with its ages as of now. */
  get now() {
    if (!this.view) return this.view;
    const more = Math.round(performance.now() - this.heardAt + this.later);
    const older = (part) => (part && typeof part === "object" && "age_ms" in part && part.age_ms !== null ? { ...part, age_ms: part.age_ms + more } : part);
    return Object.fromEntries(Object.entries(this.view).map(([name, part]) => [name, older(part)]));
  }

  /** How old the picture is, ms. */
  get age() {
    return this.heardAt ? performance.now() - this.heardAt + this.later : null;
  }
}

function rateOf(before, last) {
  if (!before || !last || last.at <= before.at || last.requests === null || before.requests === null || last.requests < before.requests) return null;
  return ((last.requests - before.requests) * 1000) / (last.at - before.at);
}
