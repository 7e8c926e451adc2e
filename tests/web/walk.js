// Runs in the page: walks every file system of a volume through the page's own worker.

import { Client } from '/client.js';
import { join, toBytes } from '/names.js';

/** Content up to here is hashed whole, above by its stored blocks (`sparse_sha256` of the manifests). */
const WHOLE = 64 * 1024 * 1024 + 4096;
const BLOCK = 65536;

const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
const digest = async (bytes) => hex(await crypto.subtle.digest('SHA-256', bytes));
const nameHex = (text) => hex(toBytes(text));
const told = ({ code, reason, message, place }) => ({ code, reason, message, place: place && { kind: place.kind, offset: Number(place.offset) } });

async function whole(client, pfs, path, size) {
  const bytes = new Uint8Array(size);
  let at = 0;
  for await (const part of client.content(pfs, path, size)) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Over every 64 KiB block with a byte that is not zero: its offset, then the block, padded. */
async function sparseHash(client, pfs, path, size) {
  const parts = [];
  let offset = 0;
  while (offset < size && (offset = await client.seekData(pfs, path, offset)) !== null) {
    offset -= offset % BLOCK;
    const bytes = await client.read(pfs, path, offset, BLOCK);
    if (bytes.some((byte) => byte !== 0)) {
      const record = new Uint8Array(8 + BLOCK);
      new DataView(record.buffer).setBigUint64(0, BigInt(offset), true);
      record.set(bytes, 8);
      parts.push(record);
    }
    offset += BLOCK;
  }
  const all = new Uint8Array(parts.length * (8 + BLOCK));
  parts.forEach((part, index) => all.set(part, index * (8 + BLOCK)));
  return digest(all);
}

async function content(client, pfs, path, entry) {
  try {
    if (entry.type === 'symlink') return { targetHex: nameHex(await client.readlink(pfs, path)) };
    if (entry.type !== 'file') return {};
    if (entry.size > WHOLE) return { sparseSha256: await sparseHash(client, pfs, path, entry.size) };
    return { sha256: await digest(await whole(client, pfs, path, entry.size)) };
  } catch (error) {
    return { error: told(error) };
  }
}

const plain = ({ name, error, ...rest }) => ({
  ...Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value])),
  ...(error ? { error: told(error) } : {}),
});

async function walkPfs(client, pfs) {
  const found = [];
  const seen = new Set();
  const pending = ['/'];
  found.push({ pathHex: nameHex('/'), ...plain(await client.lstat(pfs, '/')) });
  while (pending.length > 0) {
    const path = pending.pop();
    try {
      for await (const { entries, broken } of client.list(pfs, path, { limit: 300 })) {
        for (const each of broken) found.push({ pathHex: nameHex(path), brokenName: told(each) });
        for (const entry of entries) {
          const full = join(path, entry.name);
          found.push({ pathHex: nameHex(full), ...plain(entry), ...(entry.error ? {} : await content(client, pfs, full, entry)) });
          // A damaged image may hang a folder into itself.
          if (entry.type === 'dir' && !entry.error && !seen.has(entry.ino)) {
            seen.add(entry.ino);
            pending.push(full);
          }
        }
      }
    } catch (error) {
      found.push({ pathHex: nameHex(path), unlistable: told(error) });
    }
  }
  return found;
}

/** Everything in the volume that these files hold, or the refusal to open it. */
export async function walk(files, options) {
  const client = new Client();
  try {
    const { facts, pfs } = await client.open(files, options);
    const trees = {};
    for (const { label } of pfs.entries) {
      try {
        trees[label] = await walkPfs(client, label);
      } catch (error) {
        trees[label] = { error: told(error) };
      }
    }
    return {
      version: facts.version,
      size: Number(facts.size),
      headers: facts.volumes.map((volume) => volume.header),
      brokenPfs: pfs.broken.map(told),
      snapshots: pfs.entries.filter((each) => each.snapshot).map((each) => each.label),
      trees,
    };
  } catch (error) {
    return { refused: told(error) };
  } finally {
    client.close();
  }
}

/** A range of a file, as hexadecimal digits, or how reading it fails. */
export async function range(files, pfs, path, offset, length) {
  const client = new Client();
  try {
    await client.open(files);
    return { hex: hex(await client.read(pfs, path, offset, length)) };
  } catch (error) {
    return { error: told(error) };
  } finally {
    client.close();
  }
}
