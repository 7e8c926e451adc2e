// Local volumes: block devices in IndexedDB, one database each, and the list of them.
//
// A database has two stores: `records`, the bytes of the device in pieces of 32 KiB by their number, of
// which those that are all zeros are left out; and `about`, with one value that says what the device is.
//
// What must hold:
// * A device is written by one tab at a time: `open` holds a Web Lock until `close`, or until the
//   worker ends. (A mark in the database would stay behind after a crash.)
// * Writes are kept here until a barrier, and then go into one transaction: all of them or none.
//   Transactions of one store are carried out, and come to the medium, in the order in which they were
//   made. So only the one with a volume header waits for the medium ("strict"); it has everything
//   before it behind it.
// * Nothing but requests to the transaction itself may be awaited while it is open: it would end.
// * A value that is put is a whole array of its own: a view would be stored with all of its buffer.

/** Bytes of a record. Values from 64 KiB on become files of their own in Chromium: six times slower. */
export const RECORD = 32 * 1024;

/** Writes that are kept until a barrier; beyond them a transaction is made in between. */
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

/** Volume headers lie here and at every further multiple (media format 1.2). */
const HEADER_STRIDE = 2 * 1024 ** 3;

/** How long a lock is waited for: a tab that was just reloaded or closed lets go of it soon. */
const LOCK_MS = 1500;

const PREFIX = 'farrier-volume-';

const fail = (name, message, more = {}) => Object.assign(new DOMException(message, name), more);

/** A promise for the result of a request. */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** A promise for the end of a transaction. What aborted it is the error; a full disk is told here. */
const ended = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? fail('AbortError', 'the browser gave up the transaction'));
  });

function openDatabase(id, { create = false } = {}) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(PREFIX + id, 1);
    request.onupgradeneeded = () => {
      if (!create) {
        // It was not there: nothing of it is to stay.
        request.transaction.abort();
        return;
      }
      request.result.createObjectStore('records');
      request.result.createObjectStore('about');
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(create ? request.error : fail('NotFoundError', 'this volume is not in the browser any more', { reason: 'local-gone' }));
  });
}

const isZero = (bytes) => {
  // 32 KiB at any place of a buffer of its own: whole words.
  const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  return words.every((word) => word === 0n);
};

/** What was written into a record: its bytes as far as they are known, and which those are. */
class Patch {
  bytes = new Uint8Array(RECORD);
  #ranges = [];

  get isWhole() {
    return this.#ranges.length === 1 && this.#ranges[0][0] === 0 && this.#ranges[0][1] === RECORD;
  }

  put(at, part) {
    this.bytes.set(part, at);
    let [from, to] = [at, at + part.length];
    const apart = [];
    for (const range of this.#ranges) {
      if (range[1] < from || range[0] > to) apart.push(range);
      else [from, to] = [Math.min(from, range[0]), Math.max(to, range[1])];
    }
    this.#ranges = [...apart, [from, to]];
  }

  /** Lays what was written over the record as it is stored, or undefined. */
  over(stored) {
    if (this.isWhole || !stored) return this.bytes;
    const bytes = stored.slice();
    for (const [from, to] of this.#ranges) bytes.set(this.bytes.subarray(from, to), from);
    return bytes;
  }
}

export class Device {
  #database;
  #about;
  #release;
  #patches = new Map();
  #hasHeader = false;
  #reads = [];
  /** Why it cannot be used any more. */
  #broken = null;
  /** The last error of the browser, for a text that says more than a code. */
  failure = null;

  constructor(database, about, release) {
    this.#database = database;
    this.#about = about;
    this.#release = release;
    database.onversionchange = () => this.#give('the volume was removed by another tab');
    // Not after our own close().
    database.onclose = () => this.#give('the browser removed what this site had stored, or lost the connection to it');
  }

  #give(text) {
    this.#broken ??= fail('InvalidStateError', text);
    this.#database.close();
  }

  get size() {
    return this.#about.size;
  }

  get about() {
    return this.#about;
  }

  /** The bytes at `offset`. What is asked for in one go is read in one transaction. */
  read(offset, length) {
    return new Promise((resolve, reject) => {
      this.#reads.push({ offset, length, resolve, reject });
      if (this.#reads.length === 1) queueMicrotask(() => this.#serve(this.#reads.splice(0)));
    });
  }

  async #serve(reads) {
    try {
      const records = await this.#get(reads);
      for (const { offset, length, resolve } of reads) resolve(cut(records, offset, length));
    } catch (error) {
      this.#note(error);
      for (const { reject } of reads) reject(error);
    }
  }

  /** All records that `reads` touch, by number; undefined for zeros. */
  async #get(reads) {
    const numbers = new Set();
    for (const { offset, length } of reads) {
      for (let n = Math.floor(offset / RECORD); n * RECORD < offset + length; n += 1) numbers.add(n);
    }
    const records = new Map();
    const missing = [];
    for (const n of numbers) {
      const patch = this.#patches.get(n);
      if (patch?.isWhole) records.set(n, patch.bytes);
      else missing.push([n, patch]);
    }
    if (missing.length === 0) return records;
    const store = this.#begin('readonly', 'relaxed').objectStore('records');
    const got = await Promise.all(missing.map(([n]) => done(store.get(n))));
    missing.forEach(([n, patch], index) => records.set(n, patch ? patch.over(got[index]) : got[index]));
    return records;
  }

  #begin(mode, durability) {
    if (this.#broken) throw this.#broken;
    return this.#database.transaction('records', mode, { durability });
  }

  #note(error) {
    this.failure = error;
  }

  /** Keeps `bytes` until the next barrier. */
  write(offset, bytes) {
    if (this.#broken) throw this.#broken;
    if (offset % HEADER_STRIDE === 0) this.#hasHeader = true;
    for (let at = 0; at < bytes.length; ) {
      const n = Math.floor((offset + at) / RECORD);
      const within = offset + at - n * RECORD;
      const length = Math.min(RECORD - within, bytes.length - at);
      let patch = this.#patches.get(n);
      if (!patch) this.#patches.set(n, (patch = new Patch()));
      patch.put(within, bytes.subarray(at, at + length));
      at += length;
    }
    return this.#patches.size * RECORD >= KEPT_BYTES_MAX ? this.barrier() : undefined;
  }

  /** Carries out what was written, in one transaction. */
  async barrier() {
    const patches = this.#patches;
    const durability = this.#hasHeader ? 'strict' : 'relaxed';
    this.#patches = new Map();
    this.#hasHeader = false;
    if (this.#broken) throw this.#broken;
    if (patches.size === 0) return;
    try {
      const transaction = this.#begin('readwrite', durability);
      // Whatever aborts it is told by its end; a request's own error would be the same once more.
      await Promise.all([ended(transaction), this.#store(transaction, patches)]);
    } catch (error) {
      this.#note(error);
      throw error;
    }
  }

  async #store(transaction, patches) {
    try {
      await this.#putAll(transaction, patches);
      transaction.commit();
    } catch (error) {
      // A part of them is not to stay; it may have been aborted already.
      try {
        transaction.abort();
      } catch {}
      throw error;
    }
  }

  async #putAll(transaction, patches) {
    const store = transaction.objectStore('records');
    const put = (n, bytes) => (isZero(bytes) ? store.delete(n) : store.put(bytes, n));
    const partial = [];
    for (const [n, patch] of patches) {
      if (patch.isWhole) put(n, patch.bytes);
      else partial.push([n, patch]);
    }
    await Promise.all(partial.map(async ([n, patch]) => put(n, patch.over(await done(store.get(n))))));
  }

  /** The next records from number `from` on that are not zero: [[number, bytes], ...], `count` at most. */
  async records(from, count) {
    const store = this.#begin('readonly', 'relaxed').objectStore('records');
    const range = IDBKeyRange.lowerBound(from);
    const [numbers, values] = await Promise.all([done(store.getAllKeys(range, count)), done(store.getAll(range, count))]);
    return numbers.map((n, index) => [n, values[index]]);
  }

  /** Bytes that are stored. */
  async stored() {
    return (await done(this.#begin('readonly', 'relaxed').objectStore('records').count())) * RECORD;
  }

  /** Changes what is known about the device. */
  async tell(more) {
    const about = { ...this.#about, ...more };
    const transaction = this.#database.transaction('about', 'readwrite', { durability: 'strict' });
    transaction.objectStore('about').put(about, 'about');
    await ended(transaction);
    this.#about = about;
  }

  /** Lets go of it: another tab may have it then. */
  close() {
    this.#broken ??= fail('InvalidStateError', 'the volume was closed');
    this.#database.close();
    this.#release();
  }
}

/** Puts a range together out of records. */
function cut(records, offset, length) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const n = Math.floor((offset + at) / RECORD);
    const within = offset + at - n * RECORD;
    const part = Math.min(RECORD - within, length - at);
    const record = records.get(n);
    if (record) bytes.set(record.subarray(within, within + part), at);
    at += part;
  }
  return bytes;
}

/** Browsers give locks, and with them a safe way to write, only to pages that nobody could have altered. */
function needLocks() {
  if (!navigator.locks) throw fail('NotSupportedError', 'local volumes need a page that was loaded by https, or from this computer');
}

/** Takes the lock of a volume, and returns what releases it. */
function lock(id) {
  needLocks();
  return new Promise((resolve, reject) => {
    const held = new Promise((release) => {
      navigator.locks
        .request(PREFIX + id, { mode: 'exclusive', signal: AbortSignal.timeout(LOCK_MS) }, () => {
          resolve(release);
          return held;
        })
        .catch(() => reject(fail('InvalidStateError', 'the volume is open in another tab', { reason: 'in-use' })));
    });
  });
}

/** Makes the database of a new device; it is listed as incomplete until `tell({ ready: true })`. */
export async function createDevice({ name, size }) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const release = await lock(id);
  try {
    const device = new Device(await openDatabase(id, { create: true }), { id, name, size, createdMs: Date.now(), ready: false }, release);
    await device.tell({});
    return device;
  } catch (error) {
    release();
    throw error;
  }
}

async function readAbout(database) {
  return done(database.transaction('about').objectStore('about').get('about'));
}

/** Opens the device of a volume for this worker alone. */
export async function openDevice(id) {
  const release = await lock(id);
  try {
    const database = await openDatabase(id);
    const about = await readAbout(database);
    if (!about) {
      database.close();
      throw fail('NotFoundError', 'this volume was never completed', { reason: 'local-gone' });
    }
    return new Device(database, about, release);
  } catch (error) {
    release();
    throw error;
  }
}

/** All volumes that this browser keeps: what is known of each, and whether some tab has it open. */
export async function listDevices() {
  needLocks();
  const [databases, locks] = await Promise.all([indexedDB.databases(), navigator.locks.query()]);
  const held = new Set(locks.held.map((each) => each.name));
  const found = [];
  for (const { name } of databases) {
    if (!name.startsWith(PREFIX)) continue;
    const id = name.slice(PREFIX.length);
    try {
      const database = await openDatabase(id);
      const about = await readAbout(database);
      const stored = (await done(database.transaction('records').objectStore('records').count())) * RECORD;
      database.close();
      found.push({ name: id, size: 0, createdMs: 0, ready: false, ...about, id, stored, inUse: held.has(name) });
    } catch {
      // It went away meanwhile.
    }
  }
  return found.sort((a, b) => b.createdMs - a.createdMs);
}

/** Removes a volume with everything in it. */
export async function deleteDevice(id) {
  const release = await lock(id);
  try {
    await done(indexedDB.deleteDatabase(PREFIX + id));
  } finally {
    release();
  }
}
