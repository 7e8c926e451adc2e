// The ZIP writer, without a browser: what it writes is read back by Python's zipfile.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import zlib from 'node:zlib';

import { crc32, zip } from '../../host-web/page/zip.js';
import { scratch } from './harness.js';

const MTIME = Date.UTC(2024, 1, 29, 12, 34, 56);
const bytes = (text) => new TextEncoder().encode(text);

async function* chunks(...parts) {
  yield* parts;
}
const file = (path, content, more = {}) => ({
  path, type: 'file', mode: 0o644, mtimeMs: MTIME, size: content.length, content: () => chunks(content), ...more,
});

async function collect(entries) {
  const parts = [];
  for await (const part of zip(entries)) parts.push(part);
  return Buffer.concat(parts);
}

/** What Python's zipfile finds in an archive; `testzip` reads everything and checks every CRC. */
function read(path, { test: whole = true } = {}) {
  const script = `
import json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
bad = z.testzip() if sys.argv[2] == "1" else None
out = [dict(name=i.filename, size=i.file_size, mode=i.external_attr >> 16, flags=i.flag_bits,
            data=z.read(i).hex() if i.file_size < 4096 else None, date=list(i.date_time)) for i in z.infolist()]
print(json.dumps(dict(bad=bad, entries=out)))`;
  return JSON.parse(execFileSync('python3', ['-c', script, path, whole ? '1' : '0'], { maxBuffer: 1 << 28 }));
}

async function roundTrip(entries) {
  const { folder, close } = scratch();
  try {
    const path = join(folder, 'a.zip');
    writeFileSync(path, await collect(entries));
    return read(path);
  } finally {
    close();
  }
}

test('crc32 is that of zlib, in any pieces', { skip: zlib.crc32 ? false : 'this Node has no zlib.crc32' }, () => {
  const data = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7919) >> 3);
  for (const cut of [0, 1, 7, 8, 9, 500, 1000]) {
    assert.equal(crc32(data.subarray(cut), crc32(data.subarray(0, cut))), zlib.crc32(data));
  }
});

test('crc32 of the standard check string', () => {
  assert.equal(crc32(bytes('123456789')), 0xcbf43926);
});

test('files, folders and links come back with names, modes and times', async () => {
  const { bad, entries } = await roundTrip([
    { path: 'top', type: 'dir', mode: 0o755, mtimeMs: MTIME },
    file('top/h\u00e4\u2603.txt', bytes('hello'), { mode: 0o640 }),
    file('top/empty', new Uint8Array(0)),
    { path: 'top/link', type: 'symlink', mode: 0o777, mtimeMs: MTIME, content: () => chunks(bytes('empty')) },
    { ...file('top/pieces', bytes('onetwothree')), content: () => chunks(bytes('one'), bytes('two'), bytes('three')) },
  ]);
  assert.equal(bad, null);
  assert.deepEqual(entries.map(({ name, mode, data }) => [name, mode, Buffer.from(data, 'hex').toString()]), [
    ['top/', 0o040755, ''],
    ['top/h\u00e4\u2603.txt', 0o100640, 'hello'],
    ['top/empty', 0o100644, ''],
    ['top/link', 0o120777, 'empty'],
    ['top/pieces', 0o100644, 'onetwothree'],
  ]);
  assert.ok(entries.every(({ flags }) => flags & (1 << 11)), 'the UTF-8 flag');
  const local = new Date(MTIME);
  assert.deepEqual(entries[1].date, [
    local.getFullYear(), local.getMonth() + 1, local.getDate(), local.getHours(), local.getMinutes(), local.getSeconds(),
  ]);
});

test('a name that is not UTF-8 goes in as its bytes, without the flag', async () => {
  const archive = await collect([file('caf\udce9', bytes('x'))]);
  assert.notEqual(archive.indexOf(Buffer.from([0x63, 0x61, 0x66, 0xe9])), -1);
  assert.equal(archive.readUInt16LE(6) & (1 << 11), 0);
});

test('no name can climb out of the folder that it is unpacked into', async () => {
  const { entries } = await roundTrip([file('../../etc/passwd', bytes('x')), file('/abs', bytes('x')), file('a\\..\\b', bytes('x'))]);
  assert.deepEqual(entries.map(({ name }) => name), ['__/__/etc/passwd', 'abs', 'a_.._b']);
});

test('times that a ZIP cannot hold do not break it', async () => {
  const times = [0, -1e15, 8e15, Number.NaN, Date.UTC(1979, 0), Date.UTC(2200, 0)];
  const { bad, entries } = await roundTrip(times.map((mtimeMs, index) => file(`f${index}`, bytes('x'), { mtimeMs })));
  assert.equal(bad, null);
  assert.equal(entries.length, times.length);
});

test('more than 65,535 entries need ZIP64 records', async () => {
  const count = 65_600;
  const entries = Array.from({ length: count }, (_, index) => ({ path: `d${index}`, type: 'dir', mode: 0o755, mtimeMs: MTIME }));
  const { folder, close } = scratch();
  try {
    const path = join(folder, 'many.zip');
    writeFileSync(path, await collect(entries));
    assert.equal(Number(execFileSync('python3', ['-c', 'import sys, zipfile; print(len(zipfile.ZipFile(sys.argv[1]).namelist()))', path])), count);
  } finally {
    close();
  }
});

test('a file beyond 4 GiB, and one behind it', async () => {
  const zeros = new Uint8Array(64 << 20);
  const size = 65 * zeros.length;
  const entries = [
    { ...file('large', new Uint8Array(0)), size, content: async function* many() { for (let n = 0; n < 65; n += 1) yield zeros; } },
    file('behind', bytes('found')),
  ];
  const { folder, close } = scratch();
  try {
    const path = join(folder, 'large.zip');
    const out = openSync(path, 'w');
    let at = 0;
    for await (const part of zip(entries)) {
      // A hole is as good as four gigabytes of zeros.
      if (part !== zeros) writeSync(out, part, 0, part.length, at);
      at += part.length;
    }
    ftruncateSync(out, at);
    closeSync(out);
    const { entries: found } = read(path, { test: false });
    assert.deepEqual(found.map((each) => [each.name, each.size]), [['large', size], ['behind', 5]]);
    assert.equal(Buffer.from(found[1].data, 'hex').toString(), 'found');
  } finally {
    close();
  }
});

test('an error in the content ends the archive with it', async () => {
  const broken = { ...file('bad', bytes('x')), content: async function* fails() { yield bytes('x'); throw new Error('gone'); } };
  await assert.rejects(collect([broken]), /gone/);
});
