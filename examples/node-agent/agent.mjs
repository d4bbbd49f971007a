// An agent in JavaScript under a budget of the limiter, with nothing but Node (18 or newer):
//
//   bursar up                       # one terminal
//   bursar agent add reporter       # once: writes .bursar/creds/reporter.creds
//   BURSAR_CREDS=.bursar/creds/reporter.creds node examples/node-agent/agent.mjs

import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Bursar, BursarError } from './bursar.mjs';
import { Nats } from './nats.mjs';

const home = process.env.BURSAR_HOME ?? '.bursar';
const url = process.env.BURSAR_URL ?? 'nats://127.0.0.1:4222';
const creds = process.env.BURSAR_CREDS ?? `${home}/creds/reporter.creds`;

const say = (what, facts) => console.log(JSON.stringify({ what, ...facts }));

// Stands for the call to a provider, which says what it has used.
async function callTheProvider() {
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  return { input_tokens: 870, output_tokens: 312 };
}

// Reserve, call, settle: one call under the budget.
async function oneCall(bursar, budget) {
  const amounts = { input_tokens: 900, output_tokens: 400 };
  const granted = await bursar.request('limiter', 'reserve', { budget, amounts, wait_ms: 30_000 }, { timeout: 40_000 });
  if (!granted.ok) return say('refused', { reason: granted.reason, text: granted.text });
  const settle = { reservation: granted.reservation };
  if (performance.now() >= (await bursar.sendBy(granted))) {
    return say('too late', await bursar.request('limiter', 'settle', { ...settle, outcome: 'cancelled' }));
  }
  const usage = await callTheProvider();
  const settled = await bursar.request('limiter', 'settle', { ...settle, usage });
  return say('settled', { reservation: settled.reservation, refunded: settled.refunded });
}

// More than the limit: a refusal is an ordinary answer, with the reason and the time.
async function tooMuch(bursar, budget) {
  const amounts = { input_tokens: 10 ** 9 };
  const refused = await bursar.request('limiter', 'reserve', { budget, amounts });
  say('refused', { reason: refused.reason, dimension: refused.dimension, text: refused.text });
}

// The same id and content: the same answer, however often. Other content under that id: an error.
async function twice(bursar, budget) {
  const id = `once_${process.pid}_${Date.now()}`; // a name of your own, kept for the retries
  const ask = { budget, amounts: { input_tokens: 100 } };
  const [first, again] = [
    await bursar.request('limiter', 'reserve', ask, { id }),
    await bursar.request('limiter', 'reserve', ask, { id }),
  ];
  say('asked twice', { granted: first.reservation, again: again.reservation });
  try {
    await bursar.request('limiter', 'reserve', { ...ask, wait_ms: 1 }, { id });
  } catch (error) {
    if (!(error instanceof BursarError)) throw error;
    say('error', { code: error.code });
  }
  await bursar.request('limiter', 'settle', { reservation: first.reservation, outcome: 'cancelled' });
}

// The limiter's owner says that it lives; the signature proves that it is the limiter who says it.
function oneBroadcast(bursar) {
  const keys = JSON.parse(readFileSync(`${home}/trust.json`, 'utf8'));
  return new Promise((resolve) => {
    bursar.listen('limiter', 'owner', keys, (subject, body) => resolve({ subject, epoch: body.fence[1] }));
  });
}

const nats = await Nats.connect(url, creds);
const bursar = new Bursar(nats);
const [budget] = process.argv.slice(2);
await oneCall(bursar, budget ?? 'demo');
await tooMuch(bursar, budget ?? 'demo');
await twice(bursar, budget ?? 'demo');
say('broadcast', await oneBroadcast(bursar));
const { budgets } = await bursar.query('limiter', 'status', { budget: budget ?? 'demo' });
say('status', { budget: budgets[0].name, in_flight: budgets[0].dimensions.requests?.in_flight ?? null });
nats.close();
