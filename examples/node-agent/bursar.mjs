// How to ask a service of Bursar: ids that survive retries, the watermark, fences, stale answers, broadcasts.
// The rules are told in docs/wire.md; the names of verbs and fields stand in docs/asyncapi.yaml and docs/schemas.

import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { decode, encode } from './msgpack.mjs';

const SILENCE = [500, 1000, 2000]; // ms to wait for an answer before the same bytes are sent again
const FIRST_PAUSE = 50; // ms before the next try when the service says "not now"; doubled each time, up to a second
const NOT_NOW = new Set(['not_ready', 'failed_closed', 'journal_full', 'internal', 'too_many', 'overloaded']);
const PUBLIC_KEY_HEAD = Buffer.from('302a300506032b6570032100', 'hex'); // SPKI before an Ed25519 public key

export class BursarError extends Error {
  constructor({ code, text, facts }) {
    super(`${code}: ${text}`);
    this.code = code;
    this.facts = facts;
  }
}

export class Bursar {
  #open = new Map(); // last token of the reply subject -> what to do with an answer
  #session = randomBytes(8).toString('hex'); // drawn anew in every process, so that no id is ever used twice
  #count = 0;
  #asked = 0;
  #unended = new Set();
  #seen = new Map(); // service -> { text, numbers } of the highest fence it has shown

  constructor(nats) {
    this.nats = nats;
    nats.subscribe(`${nats.inbox}.*`, (subject, data, status) => {
      this.#open.get(subject.slice(nats.inbox.length + 1))?.(data, status);
    });
  }

  // A request that may change something. Returns the answer (look at `ok`), throws BursarError. Repeated until it is
  // answered or `timeout` ms are over: then nobody knows whether it was done, and only the same id can find out.
  async request(service, verb, fields, { timeout = 10_000, id = '' } = {}) {
    const number = (this.#count += 1);
    this.#unended.add(number);
    const acked = Math.min(...this.#unended) - 1; // all before this one have been answered
    try {
      const message = { v: 1, id: id || `${this.#session}-${number}`, acked: id ? 0 : acked };
      return await this.#ask(service, verb, { ...message, ...this.#fence(service), ...fields }, timeout);
    } finally {
      this.#unended.delete(number);
    }
  }

  // A request that changes nothing.
  query(service, verb, fields = {}, { timeout = 10_000 } = {}) {
    return this.#ask(service, verb, { v: 1, ...this.#fence(service), ...fields }, timeout);
  }

  #fence(service) {
    return { seen: this.#seen.get(service)?.text };
  }

  async #ask(service, verb, message, timeout) {
    const subject = `bursar.req.${service}.${verb}.${this.nats.principal}`;
    const bytes = encode(message); // every try sends these bytes and is answered at the same place
    const place = String((this.#asked += 1));
    const until = performance.now() + timeout;
    const sent = performance.now();
    let silent = 0;
    let refused = 0;
    let problem = 'no answer';
    try {
      while (performance.now() < until) {
        const heard = this.nats.publish(subject, bytes, `${this.nats.inbox}.${place}`)
          ? await this.#answer(place, Math.min(SILENCE[Math.min(silent, 2)], until - performance.now()))
          : { problem: 'not connected' };
        if (heard?.reply && !this.#isStale(service, message, heard.reply)) return { ...heard.reply, sent };
        if (heard?.error && !NOT_NOW.has(heard.error.code)) throw new BursarError(heard.error);
        if (heard === null) silent += 1;
        else await pause(Math.min(1000, FIRST_PAUSE * 2 ** refused++) * (0.8 + 0.4 * Math.random()));
        problem = heard?.error?.code ?? heard?.problem ?? (heard ? 'stale answer' : 'no answer');
      }
    } finally {
      this.#open.delete(place);
    }
    throw new BursarError({ code: 'request_timeout', text: `${service} did not answer in time: ${problem}`, facts: {} });
  }

  // The next answer at this place, or null when there is none in time.
  #answer(place, ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(null), ms);
      this.#open.set(place, (data, status) => {
        clearTimeout(timer);
        if (status === 503 && data.length === 0) return resolve({ problem: 'nobody listens' });
        const reply = decode(data);
        resolve(typeof reply.error === 'object' && reply.error !== null ? { error: reply.error } : { reply });
      });
    });
  }

  // An owner that was replaced may still refuse, or tell old figures; what it accepted was on disk and holds.
  #isStale(service, message, reply) {
    const numbers = reply.fence.split('.').slice(0, 3).map(Number);
    const highest = this.#seen.get(service)?.numbers ?? [0, 0, 0];
    const accepted = message.id !== undefined && reply.ok === true;
    if (!accepted && compare(numbers.slice(0, 2), highest.slice(0, 2)) < 0) return true;
    if (compare(numbers, highest) > 0) this.#seen.set(service, { text: reply.fence, numbers });
    return false;
  }

  // Until when (performance.now()) a permit of the limiter may be used. Its clock is not ours: what it says was true
  // at the earliest when we asked, so counting from then errs on the safe side.
  async sendBy(granted) {
    const good = granted.send_by_at_ms - granted.granted_at_ms;
    if (performance.now() < granted.sent + good) return granted.sent + good;
    const clock = await this.query('limiter', 'clock'); // it has stood in line: ask what time it is
    return clock.sent + granted.send_by_at_ms - clock.now_ms;
  }

  // Hear signed broadcasts. `keys`: service -> public key in base64, as in <home>/trust.json.
  listen(service, kind, keys, handler) {
    const raw = Buffer.concat([PUBLIC_KEY_HEAD, Buffer.from(keys[service], 'base64')]);
    const key = createPublicKey({ key: raw, format: 'der', type: 'spki' });
    this.nats.subscribe(`bursar.evt.${service}.${kind}.*`, (subject, data) => {
      const { b, s } = decode(data);
      const signed = Buffer.concat([Buffer.from(`${subject}\0`), b]);
      if (verify(null, signed, key, s)) handler(subject, decode(b));
    });
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

function compare(a, b) {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at < 0 ? 0 : a[at] - b[at];
}
