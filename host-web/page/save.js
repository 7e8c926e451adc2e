// Getting bytes out of the page: one file, or many as a ZIP, in slices from the worker to the disk.

import { join, safeFileName, toBytes } from './names.js';

/** From here on a download asks where to go and is streamed there; below, the browser's own way is handier. */
export const STREAM_FROM = 256 * 1024 * 1024;

/** Small pieces (the headers of a ZIP) are gathered: every write costs a trip to another process. */
const GATHER = 1024 * 1024;

/** Collects into Blobs, which the browser moves out of memory as it likes, and ends as a download. */
class BlobSink {
  #parts = [];
  #name;
  #type;

  constructor(name, type) {
    this.#name = name;
    this.#type = type;
  }

  write(bytes) {
    this.add(new Blob([bytes]));
  }

  add(part) {
    this.#parts.push(part);
  }

  close() {
    const url = URL.createObjectURL(new Blob(this.#parts, { type: this.#type }));
    this.#parts = [];
    const link = document.createElement('a');
    link.href = url;
    link.download = this.#name;
    link.click();
    // The download has its own hold on the Blob once it began; browsers do not say when that is.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  abort() {
    this.#parts = [];
  }
}

/** Whether a download of this size should ask for a place first. */
export const wantsPlace = (size) => size >= STREAM_FROM && 'showSaveFilePicker' in globalThis;

/**
 * Where the bytes go: `write`, then `close` or `abort`. Must be called from a user's action if
 * `wantsPlace(size)`, since it then opens a dialog; AbortError if that is dismissed.
 */
export async function openSink(name, size, type = 'application/octet-stream') {
  const suggestedName = safeFileName(name);
  if (!wantsPlace(size)) return new BlobSink(suggestedName, type);
  const handle = await globalThis.showSaveFilePicker({ suggestedName });
  // Nothing stands under the chosen name before `close`: a cancelled download leaves no half file.
  return handle.createWritable();
}

/** A piece of nothing, for holes of an image: a Blob of many of them costs no more than one. */
const HOLE = 1024 * 1024;

/** Collects an image, holes as holes as far as a Blob has them, and ends as a download. */
class ImageBlobSink extends BlobSink {
  #at = 0;
  #hole = new Blob([new Uint8Array(HOLE)]);

  put(offset, bytes) {
    this.#pad(offset);
    this.write(bytes);
    this.#at += bytes.length;
  }

  finish(size) {
    this.#pad(size);
    this.close();
  }

  #pad(to) {
    for (; this.#at < to; this.#at += Math.min(HOLE, to - this.#at)) {
      this.add(to - this.#at >= HOLE ? this.#hole : this.#hole.slice(0, to - this.#at));
    }
  }
}

/** Writes an image where somebody chose; what is skipped are zeros. */
class ImageFileSink {
  #stream;

  constructor(stream) {
    this.#stream = stream;
  }

  put(offset, bytes) {
    return this.#stream.write({ type: 'write', position: offset, data: bytes });
  }

  async finish(size) {
    await this.#stream.truncate(size);
    await this.#stream.close();
  }

  abort() {
    return this.#stream.abort();
  }
}

/**
 * Where an image goes: `put(offset, bytes)` in ascending order, then `finish(size)` or `abort`. Must be
 * called from a user's action; AbortError if the dialog for the place is dismissed.
 */
export async function openImageSink(name) {
  const suggestedName = safeFileName(name);
  if (!('showSaveFilePicker' in globalThis)) return new ImageBlobSink(suggestedName, 'application/octet-stream');
  const handle = await globalThis.showSaveFilePicker({ suggestedName });
  return new ImageFileSink(await handle.createWritable());
}

/** Pours `source` into `sink`, telling how many bytes went by. */
export async function pour(source, sink, { onBytes, signal } = {}) {
  let gathered = [];
  let size = 0;
  const flush = async () => {
    if (size === 0) return;
    const whole = gathered.length === 1 ? gathered[0] : new Uint8Array(size);
    if (gathered.length > 1) {
      let at = 0;
      for (const part of gathered) {
        whole.set(part, at);
        at += part.length;
      }
    }
    gathered = [];
    size = 0;
    await sink.write(whole);
    onBytes?.(whole.length);
  };
  try {
    for await (const bytes of source) {
      signal?.throwIfAborted();
      gathered.push(bytes);
      size += bytes.length;
      if (size >= GATHER) await flush();
    }
    await flush();
    signal?.throwIfAborted();
    await sink.close();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/**
 * Everything below the given entries, folders before their contents.
 * @param {import('./client.js').Client} client
 * @returns {Promise<{items: object[], bytes: number, skipped: object[]}>} items have `path` (in the
 *   archive), `source` (in the file system) and `entry`; `skipped` what no archive can hold or nobody can read
 */
export async function collect(client, pfs, roots, { signal, onFound } = {}) {
  const items = [];
  const skipped = [];
  let bytes = 0;
  // A stack of its own, not recursion: an image may nest folders deeper than any call stack.
  const pending = roots.map(({ source, entry }) => ({ path: entry.name, source, entry, inside: new Set() })).reverse();
  while (pending.length > 0) {
    signal?.throwIfAborted();
    const item = pending.pop();
    const { path, source, entry, inside } = item;
    if (entry.error) {
      skipped.push({ source, why: entry.error.message });
      continue;
    }
    if (entry.type === 'dir') {
      // A damaged image can hang a folder into itself.
      if (inside.has(entry.ino)) {
        skipped.push({ source, why: 'this folder lies within itself' });
        continue;
      }
      items.push(item);
      const below = new Set(inside).add(entry.ino);
      const found = [];
      try {
        for await (const { entries, broken } of client.list(pfs, source, { signal })) {
          for (const each of entries) {
            found.push({ path: `${path}/${each.name}`, source: join(source, each.name), entry: each, inside: below });
          }
          for (const each of broken) skipped.push({ source, why: `names may be missing: ${each.message}` });
        }
      } catch (error) {
        if (error.name === 'AbortError' || error.reason === 'internal') throw error;
        skipped.push({ source, why: error.message });
      }
      pending.push(...found.reverse());
    } else if (entry.type === 'file' || entry.type === 'symlink') {
      items.push(item);
      if (entry.type === 'file') bytes += entry.size;
      onFound?.(items.length, bytes);
    } else {
      skipped.push({ source, why: 'a ZIP cannot hold devices, sockets and FIFOs' });
    }
  }
  return { items, bytes, skipped };
}

/** Name of the report that goes into an archive from which something is missing. */
export const REPORT = 'FARRIER-NOT-COMPLETE.txt';

/**
 * The entries for `zip()`. A file that turns out to be damaged ends where the damage begins and is
 * named in a report at the end of the archive: the rest of a folder is worth having.
 */
export async function* zipEntries(client, pfs, items, skipped, { signal, onItem } = {}) {
  for (const { path, source, entry } of items) {
    signal?.throwIfAborted();
    const common = { path, type: entry.type, mode: entry.mode, mtimeMs: entry.mtimeMs };
    if (entry.type === 'dir') {
      yield common;
    } else if (entry.type === 'symlink') {
      yield { ...common, content: () => guard(source, skipped, linkTarget(client, pfs, source)) };
    } else {
      yield { ...common, size: entry.size, content: () => guard(source, skipped, client.content(pfs, source, entry.size, { signal })) };
    }
    onItem?.();
  }
  if (skipped.length > 0) {
    const text = ['Not in this archive, or not whole:', '', ...skipped.map(({ source, why }) => `${source.toWellFormed()}: ${why}`), ''].join('\n');
    yield {
      path: REPORT,
      type: 'file',
      mode: 0o644,
      mtimeMs: Date.now(),
      content: async function* report() {
        yield new TextEncoder().encode(text);
      },
    };
  }
}

async function* linkTarget(client, pfs, source) {
  yield toBytes(await client.readlink(pfs, source));
}

async function* guard(source, skipped, content) {
  try {
    yield* content;
  } catch (error) {
    if (error.code !== 'EIO') throw error;
    skipped.push({ source, why: error.message });
  }
}
