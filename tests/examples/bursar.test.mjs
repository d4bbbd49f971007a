// The rules of docs/wire.md in the JavaScript example, against a network that the test answers itself.
// Run by test_node_agent.py, in the folder of the example.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { test } from 'node:test';

const here = pathToFileURL(`${process.cwd()}/`);
const { Bursar, BursarError } = await import(new URL('bursar.mjs', here));
const { decode, encode } = await import(new URL('msgpack.mjs', here));

const MAC = '0123456789abcdef';
const done = (epoch, number, more = {}) => ({ v: 1, ok: true, fence: `1.${epoch}.${number}.${MAC}`, ...more });
const failed = (code) => ({ v: 1, error: { code, text: 'for a reason', facts: {} } });

// A network: `answers` says what the n-th message gets: a message, 503 (nobody listens), or nothing.
function network(...answers) {
  const sent = [];
  const heard = [];
  let inbox = null;
  const nats = {
    principal: 'tester',
    inbox: '_R.tester.x',
    subscribe(subject, handler) {
      if (subject.startsWith('_R.')) inbox = handler;
      else heard.push({ subject, handler });
    },
    publish(subject, data, reply) {
      sent.push({ subject, data, reply, message: decode(data) });
      const answer = answers[sent.length - 1];
      if (answer === 503) setImmediate(() => inbox(reply, Buffer.alloc(0), 503));
      else if (answer) setImmediate(() => inbox(reply, encode(answer), 0));
      return answer !== 'not connected';
    },
  };
  return { bursar: new Bursar(nats), sent, heard };
}

test('every try sends the same bytes and is answered at the same place', async () => {
  const { bursar, sent } = network(503, failed('not_ready'), null, done(1, 1));
  assert.equal((await bursar.request('limiter', 'reserve', { budget: 'b' })).ok, true);
  assert.equal(sent.length, 4);
  assert.equal(new Set(sent.map(({ data }) => data.toString('hex'))).size, 1);
  assert.equal(new Set(sent.map(({ reply }) => reply)).size, 1);
  assert.equal(sent[0].subject, 'bursar.req.limiter.reserve.tester');
});

test('ids count within a session, and the watermark says what has arrived', async () => {
  const { bursar, sent } = network(done(1, 1), done(1, 2));
  await bursar.request('limiter', 'reserve', {});
  await bursar.request('limiter', 'reserve', {});
  const [first, second] = sent.map(({ message }) => message);
  assert.match(first.id, /^[0-9a-f]{16}-1$/);
  assert.equal(second.id, first.id.replace(/1$/, '2'));
  assert.deepEqual([first.acked, second.acked], [0, 1]);
});

test('the watermark waits for the oldest request that is open', async () => {
  const { bursar, sent } = network(null, done(1, 2), done(1, 3), done(1, 4));
  const slow = bursar.request('limiter', 'reserve', {});
  await bursar.request('limiter', 'reserve', {});
  await bursar.request('limiter', 'reserve', {});
  assert.equal(sent[2].message.acked, 0);
  await slow;
});

test('the highest fence goes with the next request', async () => {
  const { bursar, sent } = network(done(1, 9), done(1, 10), done(1, 9), done(1, 11));
  for (let i = 0; i < 4; i += 1) await bursar.query('limiter', 'status');
  assert.deepEqual(sent.map(({ message }) => message.seen ?? null), [null, `1.1.9.${MAC}`, `1.1.10.${MAC}`, `1.1.10.${MAC}`]);
});

test('a stale refusal is asked again, what an earlier owner accepted holds', async () => {
  const refusal = { ...done(1, 6), ok: false };
  const { bursar, sent } = network(done(2, 1), refusal, done(2, 2), done(1, 7, { reservation: '1.1.7' }));
  await bursar.query('limiter', 'status');
  assert.equal((await bursar.request('limiter', 'reserve', {})).fence, `1.2.2.${MAC}`);
  assert.equal(sent.length, 3);
  assert.equal((await bursar.request('limiter', 'reserve', {})).reservation, '1.1.7');
});

test('a final error is raised with its code, one that passes is not', async () => {
  const { bursar, sent } = network(failed('too_many'), failed('unknown_budget'));
  await assert.rejects(bursar.request('limiter', 'reserve', {}), (error) => error instanceof BursarError && error.code === 'unknown_budget');
  assert.equal(sent.length, 2);
});

test('a text called error is part of an answer', async () => {
  const { bursar } = network(done(1, 1, { error: 'the model gave no answer' }));
  assert.equal((await bursar.query('scheduler', 'find')).error, 'the model gave no answer');
});

test('without an answer in time nobody knows, and it says why', async () => {
  const { bursar } = network('not connected', 'not connected', 'not connected');
  await assert.rejects(bursar.query('limiter', 'status', {}, { timeout: 60 }), /request_timeout: .*not connected/);
});

test('only a broadcast that its service has signed is heard', () => {
  const { bursar, heard } = network();
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
  const told = [];
  bursar.listen('breaker', 'state', { breaker: raw }, (subject, body) => told.push(body.n));
  const say = (n, subject, signedAs = subject) => {
    const b = encode({ n });
    const s = sign(null, Buffer.concat([Buffer.from(`${signedAs}\0`), b]), privateKey);
    heard[0].handler(subject, encode({ v: 1, b, s }));
    return { b, s };
  };
  say(1, 'bursar.evt.breaker.state.p');
  say(2, 'bursar.evt.breaker.state.p', 'bursar.evt.breaker.state.q');
  const { s } = say(3, 'bursar.evt.breaker.state.p');
  heard[0].handler('bursar.evt.breaker.state.p', encode({ v: 1, b: encode({ n: 4 }), s }));
  assert.deepEqual(told, [1, 3]);
});

test('a permit is good until its deadline, counted from the asking', async () => {
  const { bursar } = network(done(1, 1, { now_ms: 5_000 }));
  const soon = await bursar.sendBy({ sent: performance.now(), granted_at_ms: 1_000, send_by_at_ms: 1_300 });
  assert.ok(Math.abs(soon - performance.now() - 300) < 50);
  const late = await bursar.sendBy({ sent: performance.now() - 9_000, granted_at_ms: 4_900, send_by_at_ms: 5_200 });
  assert.ok(Math.abs(late - performance.now() - 200) < 50);
});
