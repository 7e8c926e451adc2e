// How the tests of golden and damaged images reach into the page.

import { strict as assert } from 'node:assert';

/** Gives the page files by an input of the test's own, and calls a function of walk.js with them. */
export async function inPage(page, files, name, ...args) {
  await page.evaluate(() => {
    document.querySelector('#test-files')?.remove();
    document.body.append(Object.assign(document.createElement('input'), { type: 'file', id: 'test-files', multiple: true, hidden: true }));
  });
  await page.locator('#test-files').setInputFiles(files);
  return page.evaluate(
    async ([called, rest]) => {
      const module = await import('/walk.js');
      return module[called](Array.from(document.querySelector('#test-files').files), ...rest);
    },
    [name, args],
  );
}

const pathHex = (entry) => entry.path_hex ?? Buffer.from(entry.path).toString('hex');

/** What the manifest says of an entry and the page must say, too. */
function expected(entry) {
  const out = {
    pathHex: pathHex(entry), type: entry.type, mode: Number.parseInt(entry.mode, 8), nlink: entry.nlink, uid: entry.uid, gid: entry.gid,
  };
  if (entry.type !== 'dir') out.size = entry.size;
  if (entry.mtime_us !== undefined) out.mtimeUs = entry.mtime_us;
  if (entry.ctime_us !== undefined) out.ctimeUs = entry.ctime_us;
  if (entry.inum !== undefined) out.ino = entry.inum;
  if (entry.uflags !== undefined) out.flags = entry.uflags;
  if (entry.rdev !== undefined) out.rdev = entry.rdev;
  if (entry.comp !== undefined) out.compression = entry.comp;
  if (entry.check !== undefined) out.check = entry.check;
  if (entry.target !== undefined || entry.target_hex !== undefined) {
    out.targetHex = entry.target_hex ?? Buffer.from(entry.target).toString('hex');
  }
  return out;
}

/**
 * Compares a walked tree with the entries of a manifest and returns how many were equal; `except`
 * says which paths (hex) may differ.
 */
export function compare(tree, entries, { except = () => false, where = '' } = {}) {
  const found = new Map(tree.filter((each) => each.type).map((each) => [each.pathHex, each]));
  let equal = 0;
  for (const entry of entries) {
    const want = expected(entry);
    if (except(want.pathHex)) continue;
    const got = found.get(want.pathHex);
    assert.ok(got, `${where}${entry.path} is missing`);
    assert.equal(got.error, undefined, `${where}${entry.path}: ${got.error?.message}`);
    for (const [key, value] of Object.entries(want)) {
      assert.deepEqual(got[key], value, `${where}${entry.path}: ${key}`);
    }
    if (got.sha256 !== undefined) assert.equal(got.sha256, entry.sha256, `${where}${entry.path}: content`);
    else if (got.sparseSha256 !== undefined) assert.equal(got.sparseSha256, entry.sparse_sha256, `${where}${entry.path}: stored blocks`);
    else assert.notEqual(entry.type, 'file', `${where}${entry.path}: nothing was read`);
    equal += 1;
  }
  const known = new Set(entries.map(pathHex));
  const extra = [...found.keys()].filter((path) => !known.has(path) && !except(path));
  assert.deepEqual(extra.map((path) => Buffer.from(path, 'hex').toString()), [], `${where}names that the manifest has not`);
  return equal;
}
