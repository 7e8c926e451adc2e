// A streaming ZIP writer: store-only, names in UTF-8, ZIP64 where needed, sizes and checksums in data
// descriptors after each file, so that nothing is read twice and nothing is held in memory.
//
// Layout, per file:   local header, bytes, data descriptor;   then the central directory, the ZIP64 end
// record with its locator when any count or offset does not fit, and the end record. (PKWARE APPNOTE.)

import { isUtf8, toBytes } from './names.js';

const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

const FLAG_DESCRIPTOR = 1 << 3;
const FLAG_UTF8 = 1 << 11;
const VERSION_STORE = 20;
const VERSION_ZIP64 = 45;
const MADE_BY_UNIX = 3 << 8;

const FILE_TYPES = { file: 0o100000, dir: 0o040000, symlink: 0o120000 };

// Slicing by eight: eight bytes a step, about eight times the speed of the plain table.
const CRC_TABLES = (() => {
  const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
  for (let n = 0; n < 256; n += 1) {
    let crc = n;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    tables[0][n] = crc;
  }
  for (let n = 0; n < 256; n += 1) {
    for (let k = 1; k < 8; k += 1) {
      const crc = tables[k - 1][n];
      tables[k][n] = (crc >>> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
})();

/** CRC-32 (the one of ZIP) of `bytes`, going on from `crc`, the value for what came before. */
export function crc32(bytes, crc = 0) {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = CRC_TABLES;
  let c = ~crc;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    c ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    c =
      t7[c & 0xff] ^ t6[(c >>> 8) & 0xff] ^ t5[(c >>> 16) & 0xff] ^ t4[c >>> 24] ^
      t3[bytes[at + 4]] ^ t2[bytes[at + 5]] ^ t1[bytes[at + 6]] ^ t0[bytes[at + 7]];
  }
  for (; at < bytes.length; at += 1) c = t0[(c ^ bytes[at]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
}

/** A record under construction: little-endian fields, one after the other. */
class Fields {
  #bytes = [];
  u16(...values) {
    for (const value of values) this.#bytes.push(value & 0xff, (value >>> 8) & 0xff);
    return this;
  }
  u32(...values) {
    for (const value of values) this.u16(value % 0x10000, Math.floor(value / 0x10000));
    return this;
  }
  // Exact up to 2^53, which is where the page's own sizes and offsets end.
  u64(...values) {
    for (const value of values) this.u32(value % 0x100000000, Math.floor(value / 0x100000000));
    return this;
  }
  bytes(...parts) {
    for (const part of parts) for (const byte of part) this.#bytes.push(byte);
    return this;
  }
  take() {
    return Uint8Array.from(this.#bytes);
  }
}

/** MS-DOS date and time, local time as the format wants; years outside 1980..2107 are brought inside. */
function dosTime(ms) {
  const date = new Date(ms);
  const year = date.getFullYear();
  if (!(year >= 1980)) return [0, (1 << 5) | 1];
  if (year > 2107) return [0xbf7d, 0xff9f];
  return [
    (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((year - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
  ];
}

/** The "UT" extra field: the modification time in UTC seconds, as long as 32 bits can hold it. */
function unixTime(ms) {
  const seconds = Math.floor(ms / 1000);
  if (!(seconds >= -0x80000000 && seconds <= 0x7fffffff)) return [];
  return new Fields().u16(0x5455, 5).bytes([1]).u32(seconds >>> 0).take();
}

/**
 * Refuses what an unpacker could be led astray by. An image is input from outside: a name in it must
 * not be able to climb out of the folder that somebody unpacks into.
 */
function archiveName(path) {
  const safe = path
    .split('/')
    .filter((part) => part !== '')
    .map((part) => (part === '.' || part === '..' ? part.replaceAll('.', '_') : part.replaceAll('\\', '_')))
    .join('/');
  if (safe === '') throw new RangeError('a ZIP entry needs a name');
  return safe;
}

/**
 * @typedef {object} ZipEntry
 * @property {string} path          path inside the archive, '/' between the parts
 * @property {'file'|'dir'|'symlink'} type
 * @property {number} mode          permission bits
 * @property {number} mtimeMs
 * @property {number} [size]        expected size of a file: only decides whether its fields get 64 bits
 * @property {() => AsyncIterable<Uint8Array>} [content]  of a file; of a link: its target
 */

/**
 * Turns entries into the bytes of an archive. Pull-driven: nothing is read before somebody asks.
 * @param {AsyncIterable<ZipEntry>|Iterable<ZipEntry>} entries
 * @returns {AsyncGenerator<Uint8Array>}
 */
export async function* zip(entries) {
  const central = [];
  let offset = 0;
  for await (const entry of entries) {
    const start = offset;
    const directory = entry.type === 'dir';
    const name = toBytes(archiveName(entry.path) + (directory ? '/' : ''));
    if (name.length > U16_MAX) throw new RangeError('a path of more than 65,535 bytes does not fit into a ZIP');
    // A name that is not UTF-8 goes in as its bytes, without the flag that would claim it is.
    const flags = (isUtf8(entry.path) ? FLAG_UTF8 : 0) | (directory ? 0 : FLAG_DESCRIPTOR);
    const large = (entry.size ?? 0) >= U32_MAX;
    const version = large ? VERSION_ZIP64 : VERSION_STORE;
    const [time, day] = dosTime(entry.mtimeMs);
    const stamp = unixTime(entry.mtimeMs);
    // A ZIP64 field in the local header is what tells a reader that the descriptor has 64-bit sizes.
    const wide = large ? new Fields().u16(1, 16).u64(0, 0).take() : [];
    const header = new Fields()
      .u32(0x04034b50).u16(version, flags, 0, time, day)
      .u32(0, large ? U32_MAX : 0, large ? U32_MAX : 0)
      .u16(name.length, stamp.length + wide.length)
      .bytes(name, wide, stamp)
      .take();
    offset += header.length;
    yield header;

    let crc = 0;
    let size = 0;
    if (!directory) {
      for await (const chunk of entry.content()) {
        crc = crc32(chunk, crc);
        size += chunk.length;
        yield chunk;
      }
      if (size >= U32_MAX && !large) throw new RangeError(`${entry.path} grew beyond 4 GiB while it was packed`);
      const descriptor = new Fields().u32(0x08074b50, crc);
      if (large) descriptor.u64(size, size);
      else descriptor.u32(size, size);
      const bytes = descriptor.take();
      offset += size + bytes.length;
      yield bytes;
    }

    const beyond = start >= U32_MAX;
    const extra = large || beyond
      ? new Fields().u16(1, (large ? 16 : 0) + (beyond ? 8 : 0))
        .u64(...(large ? [size, size] : []), ...(beyond ? [start] : [])).take()
      : [];
    const attributes = (((FILE_TYPES[entry.type] | (entry.mode & 0o7777)) << 16) | (directory ? 0x10 : 0)) >>> 0;
    central.push(
      new Fields()
        .u32(0x02014b50)
        .u16(MADE_BY_UNIX | VERSION_ZIP64, large || beyond ? VERSION_ZIP64 : VERSION_STORE, flags, 0, time, day)
        .u32(crc, large ? U32_MAX : size, large ? U32_MAX : size)
        .u16(name.length, extra.length + stamp.length, 0, 0, 0)
        .u32(attributes, beyond ? U32_MAX : start)
        .bytes(name, extra, stamp)
        .take(),
    );
  }

  const directoryAt = offset;
  let directorySize = 0;
  for (const record of central) {
    directorySize += record.length;
    yield record;
  }
  const records = central.length;
  if (records >= U16_MAX || directoryAt >= U32_MAX || directorySize >= U32_MAX) {
    yield new Fields()
      .u32(0x06064b50).u64(44).u16(MADE_BY_UNIX | VERSION_ZIP64, VERSION_ZIP64).u32(0, 0)
      .u64(records, records, directorySize, directoryAt)
      .u32(0x07064b50, 0).u64(directoryAt + directorySize).u32(1)
      .take();
  }
  yield new Fields()
    .u32(0x06054b50).u16(0, 0, Math.min(records, U16_MAX), Math.min(records, U16_MAX))
    .u32(Math.min(directorySize, U32_MAX), Math.min(directoryAt, U32_MAX)).u16(0)
    .take();
}
