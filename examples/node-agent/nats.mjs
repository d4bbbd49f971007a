// The part of the NATS protocol that an agent needs: connect with a .creds file, publish, subscribe, come back.
// It is here so that the example needs nothing but Node. A program of yours will rather take the official client
// (@nats-io/transport-node), which has TLS, clusters and more; bursar.mjs needs only what the class below offers.

import { createPrivateKey, randomBytes, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect as dial } from 'node:net';

const LINE_END = Buffer.from('\r\n');
const PRIVATE_KEY_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex'); // PKCS #8 before an Ed25519 seed

// What a .creds file holds: the JWT, the key, and the name that the JWT gives its bearer.
export function readCreds(path) {
  const text = readFileSync(path, 'ascii');
  const part = (name) => new RegExp(`-----BEGIN ${name}-----\\s+(\\S+)\\s`).exec(text)[1];
  const jwt = part('NATS USER JWT');
  const claims = JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));
  const seed = base32(part('USER NKEY SEED')).subarray(2, 34); // two bytes say what it is, two at the end are a checksum
  const key = createPrivateKey({ key: Buffer.concat([PRIVATE_KEY_HEAD, seed]), format: 'der', type: 'pkcs8' });
  return { jwt, key, principal: claims.name };
}

function base32(text) {
  let bits = 0n;
  for (const letter of text) bits = (bits << 5n) | BigInt('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter));
  const count = Math.floor((text.length * 5) / 8);
  bits >>= BigInt(text.length * 5 - count * 8);
  return Buffer.from(bits.toString(16).padStart(count * 2, '0'), 'hex');
}

export class Nats {
  #socket = null;
  #ready = false;
  #closed = false;
  #rest = Buffer.alloc(0);
  #handlers = new Map(); // subscription number -> { subject, handler }
  #last = 0;

  // Waits for the first connection; later ones are made by itself, and subscriptions survive.
  static async connect(url, creds) {
    const nats = new Nats();
    nats.url = new URL(url);
    nats.creds = readCreds(creds);
    nats.principal = nats.creds.principal;
    nats.inbox = `_R.${nats.principal}.${randomBytes(8).toString('hex')}`; // only there may this agent be answered
    await new Promise((resolve, reject) => nats.#dial(resolve, reject));
    return nats;
  }

  // handler(subject, data, status): status is 503 when nobody listens where the request went.
  subscribe(subject, handler) {
    this.#last += 1;
    this.#handlers.set(this.#last, { subject, handler });
    if (this.#ready) this.#send(`SUB ${subject} ${this.#last}`);
  }

  // False when there is no connection: nothing was sent then.
  publish(subject, data, reply = '') {
    if (!this.#ready) return false;
    this.#send(`PUB ${subject} ${reply ? `${reply} ` : ''}${data.length}`, data);
    return true;
  }

  close() {
    this.#closed = true;
    this.#socket.end();
  }

  #dial(resolve, reject) {
    this.#rest = Buffer.alloc(0);
    this.#socket = dial(Number(this.url.port || 4222), this.url.hostname);
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (bytes) => {
      try {
        this.#read(bytes, resolve);
      } catch (error) {
        this.#socket.destroy(error);
      }
    });
    this.#socket.on('error', (error) => reject(error));
    this.#socket.on('close', () => {
      this.#ready = false;
      reject(new Error('the server closed the connection'));
      if (!this.#closed) setTimeout(() => this.#dial(resolve, () => {}), 250);
    });
  }

  #send(line, data = null) {
    this.#socket.write(data === null ? `${line}\r\n` : Buffer.concat([Buffer.from(`${line}\r\n`), data, LINE_END]));
  }

  #read(bytes, resolve) {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (let end = this.#rest.indexOf(LINE_END); end >= 0; end = this.#rest.indexOf(LINE_END)) {
      const words = this.#rest.subarray(0, end).toString().split(' ');
      const size = words[0] === 'MSG' || words[0] === 'HMSG' ? Number(words.at(-1)) : -1;
      const next = end + 2 + (size < 0 ? 0 : size + 2);
      if (this.#rest.length < next) return; // the rest of the message is on its way
      const body = this.#rest.subarray(end + 2, next - 2);
      this.#rest = this.#rest.subarray(next);
      this.#on(words, body, resolve);
    }
  }

  #on(words, body, resolve) {
    switch (words[0]) {
      case 'MSG':
        this.#deliver(words, body, 0);
        break;
      case 'HMSG': { // headers first; their first line may carry a status
        const length = Number(words.at(-2));
        const status = /^NATS\/1\.0 (\d{3})/.exec(body.subarray(0, length).toString('latin1'));
        this.#deliver(words, body.subarray(length), status ? Number(status[1]) : 0);
        break;
      }
      case 'INFO':
        if (!this.#ready) this.#introduce(JSON.parse(words.slice(1).join(' ')));
        break;
      case 'PING':
        this.#send('PONG');
        break;
      case 'PONG': // the server has taken us
        this.#ready = true;
        for (const [number, { subject }] of this.#handlers) this.#send(`SUB ${subject} ${number}`);
        resolve();
        break;
      case '-ERR':
        process.emitWarning(`NATS: ${words.slice(1).join(' ')}`);
        break;
    }
  }

  #deliver(words, data, status) {
    this.#handlers.get(Number(words[2]))?.handler(words[1], data, status);
  }

  #introduce(info) {
    if (info.tls_required) throw new Error('this server wants TLS: use the official client');
    const { jwt, key, principal } = this.creds;
    const sig = sign(null, Buffer.from(info.nonce), key).toString('base64url');
    const about = { jwt, sig, name: principal, lang: 'bursar-example', version: '0.1.0' };
    this.#send(`CONNECT ${JSON.stringify({ ...about, protocol: 1, headers: true, no_responders: true, verbose: false })}`);
    this.#send('PING');
  }
}
