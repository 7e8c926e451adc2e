// Names and paths, without a browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as format from '../../host-web/page/format.js';
import { ancestors, display, fromBytes, fromHash, join, parent, safeFileName, toBytes, toHash } from '../../host-web/page/names.js';

test('any bytes make a name and come back', () => {
  const names = [
    [0x61], [0xff, 0xfe], [0x61, 0x80, 0x62], [0xf0, 0x9f, 0x90], [0xed, 0xb2, 0x80], [0xc3, 0x28],
    [0xef, 0xbb, 0xbf, 0x61], Array.from({ length: 255 }, (_, index) => index + 1),
  ];
  for (const name of names) assert.deepEqual(Array.from(toBytes(fromBytes(Uint8Array.from(name)))), name);
  assert.equal(fromBytes(Uint8Array.from([0x61, 0xff])), 'a\udcff');
});

test('a place survives the URL', () => {
  for (const [label, path] of [
    ['DATA', '/'], ['DATA', '/a/b c'], ['with/slash', '/100%/#?&'], ['r\u00f6\u00f6t', '/\u{1f40e}/\udcff\n'],
  ]) {
    const hash = toHash(label, path);
    assert.match(hash, /^#[\x21-\x7e]+$/);
    assert.deepEqual(fromHash(hash), { label, path });
  }
});

test('a hash that is no place is none', () => {
  assert.equal(fromHash(''), null);
  assert.equal(fromHash('#list'), null);
  assert.equal(fromHash('#/'), null);
  assert.deepEqual(fromHash('#/DATA//a/../b/'), { label: 'DATA', path: '/a/b' });
});

test('what is shown stays on its line and in its order', () => {
  assert.equal(display('a\nb'), 'a\u240ab');
  assert.equal(display('exe.\u202etxt'), 'exe.\ufffdtxt');
  assert.equal(display('\udcff'), '\ufffd');
});

test('a download gets a name that every system takes', () => {
  assert.equal(safeFileName('a/b:c?'), 'a_b_c_');
  assert.equal(safeFileName('..'), '_');
  assert.equal(safeFileName(''), 'download');
});

test('paths', () => {
  assert.equal(join('/', 'a'), '/a');
  assert.equal(join('/a', 'b'), '/a/b');
  assert.equal(parent('/a/b'), '/a');
  assert.equal(parent('/a'), '/');
  assert.deepEqual(ancestors('/a/b'), ['/', '/a', '/a/b']);
  assert.deepEqual(ancestors('/'), ['/']);
});

test('sizes have three digits', () => {
  assert.deepEqual([0, 1023, 1024, 10_240, 1_048_576, 2 ** 40].map(format.bytes), ['0 B', '1023 B', '1.00 KiB', '10.0 KiB', '1.00 MiB', '1.00 TiB']);
});

test('modes read as ls writes them', () => {
  assert.equal(format.mode({ type: 'dir', mode: 0o1777 }), 'drwxrwxrwt');
  assert.equal(format.mode({ type: 'file', mode: 0o4655 }), '-rwSr-xr-x');
});

test('folders come first, numbers count as numbers', () => {
  const entries = ['b', 'file10', 'file2'].map((name) => ({ name, type: 'file', size: 1 })).concat({ name: 'z', type: 'dir' });
  const sorted = (sort) => entries.toSorted(format.comparison(sort)).map((entry) => entry.name);
  assert.deepEqual(sorted({ column: 'name', descending: false }), ['z', 'b', 'file2', 'file10']);
  assert.deepEqual(sorted({ column: 'name', descending: true }), ['z', 'file10', 'file2', 'b']);
  assert.deepEqual(sorted({ column: 'size', descending: true }), ['z', 'b', 'file2', 'file10']);
});
