// msgpack, as far as Bursar's messages go: maps with string keys, arrays, strings, binary, integers up to 2^53,
// floats, booleans, null. No extension types: the services refuse them.

const utf8 = new TextDecoder('utf-8', { fatal: true });

export function encode(value) {
  const parts = [];
  write(value, parts);
  return Buffer.concat(parts);
}

export function decode(bytes) {
  const source = { bytes: Buffer.from(bytes), at: 0 };
  const value = read(source);
  if (source.at !== source.bytes.length) throw new Error('there is something behind the msgpack value');
  return value;
}

function write(value, out) {
  if (value === null || value === undefined) out.push(Buffer.of(0xc0));
  else if (typeof value === 'boolean') out.push(Buffer.of(value ? 0xc3 : 0xc2));
  else if (typeof value === 'number') out.push(Number.isSafeInteger(value) ? integer(value) : float(value));
  else if (typeof value === 'string') {
    const text = Buffer.from(value, 'utf8');
    out.push(head(text.length, [0xa0, 32], [0xd9, 0xda, 0xdb]), text);
  } else if (value instanceof Uint8Array) out.push(head(value.length, null, [0xc4, 0xc5, 0xc6]), value);
  else if (Array.isArray(value)) {
    out.push(head(value.length, [0x90, 16], [null, 0xdc, 0xdd]));
    for (const item of value) write(item, out);
  } else {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    out.push(head(entries.length, [0x80, 16], [null, 0xde, 0xdf]));
    for (const [key, inner] of entries) {
      write(key, out);
      write(inner, out);
    }
  }
}

// The first bytes of a value with a length: in the type's own byte if it is short, else in 1, 2 or 4 bytes behind it.
function head(length, short, [one, two, four]) {
  if (short && length < short[1]) return Buffer.of(short[0] | length);
  if (one !== null && length < 0x100) return Buffer.of(one, length);
  const bytes = Buffer.alloc(length < 0x10000 ? 3 : 5);
  bytes[0] = length < 0x10000 ? two : four;
  bytes.writeUIntBE(length, 1, bytes.length - 1);
  return bytes;
}

// The shortest form, as every packer writes it: the services read that one quickest.
function integer(value) {
  if (value >= -32 && value < 0x80) return Buffer.of(value & 0xff);
  const size = [1, 2, 4].find((count) => (value < 0 ? value >= -(2 ** (8 * count - 1)) : value < 2 ** (8 * count)));
  const bytes = Buffer.alloc(1 + (size ?? 8));
  bytes[0] = (value < 0 ? 0xd0 : 0xcc) + [1, 2, 4, 8].indexOf(size ?? 8);
  if (size === undefined) bytes.writeBigInt64BE(BigInt(value), 1);
  else if (value < 0) bytes.writeIntBE(value, 1, size);
  else bytes.writeUIntBE(value, 1, size);
  return bytes;
}

function float(value) {
  const bytes = Buffer.alloc(9, 0xcb);
  bytes.writeDoubleBE(value, 1);
  return bytes;
}

function read(source) {
  const type = take(source, 1)[0];
  if (type < 0x80) return type;
  if (type < 0x90) return readMap(source, type & 0x0f);
  if (type < 0xa0) return readArray(source, type & 0x0f);
  if (type < 0xc0) return utf8.decode(take(source, type & 0x1f));
  if (type >= 0xe0) return type - 0x100;
  switch (type) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: case 0xc5: case 0xc6: return Buffer.from(take(source, unsigned(source, 1 << (type - 0xc4))));
    case 0xca: return take(source, 4).readFloatBE();
    case 0xcb: return take(source, 8).readDoubleBE();
    case 0xcc: case 0xcd: case 0xce: return unsigned(source, 1 << (type - 0xcc));
    case 0xcf: return exact(take(source, 8).readBigUInt64BE());
    case 0xd0: case 0xd1: case 0xd2: return take(source, 1 << (type - 0xd0)).readIntBE(0, 1 << (type - 0xd0));
    case 0xd3: return exact(take(source, 8).readBigInt64BE());
    case 0xd9: case 0xda: case 0xdb: return utf8.decode(take(source, unsigned(source, 1 << (type - 0xd9))));
    case 0xdc: case 0xdd: return readArray(source, unsigned(source, 2 << (type - 0xdc)));
    case 0xde: case 0xdf: return readMap(source, unsigned(source, 2 << (type - 0xde)));
    default: throw new Error(`type byte 0x${type.toString(16)} does not occur in a message of Bursar`);
  }
}

function take(source, count) {
  if (source.at + count > source.bytes.length) throw new Error('the msgpack value is cut off');
  source.at += count;
  return source.bytes.subarray(source.at - count, source.at);
}

const unsigned = (source, count) => take(source, count).readUIntBE(0, count);

function exact(value) {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`${value} is no integer within 2^53`);
  return number;
}

function readArray(source, count) {
  const items = [];
  for (let i = 0; i < count; i += 1) items.push(read(source));
  return items;
}

function readMap(source, count) {
  const pairs = [];
  for (let i = 0; i < count; i += 1) pairs.push([read(source), read(source)]);
  return Object.fromEntries(pairs);
}
