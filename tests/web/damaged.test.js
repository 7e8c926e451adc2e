// Damaged images: what is intact reads as before, what is not fails with a clear error, and the page
// goes on. The images are made here: an undamaged one and the bytes that were written over it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { damagedImages, DIST, goldenImages, HERE, makeDamaged, notBuilt, openFiles, openPage, scratch, serve, unpack } from './harness.js';
import { compare, inPage } from './images.js';

/** Volumes that must not open: the reason, and how the sentence in the page begins. */
const REFUSED = {
  'd-hdr-all-crc': ['no-header', 'has no intact volume header'],
  'd-magic-zero': ['not-hammer2', 'is not a HAMMER2 image'],
  'd-magic-wrong': ['not-hammer2', 'is not a HAMMER2 image'],
  'd-byteswapped': ['byte-order', 'was written by a machine of the opposite byte order'],
  'd-version-99': ['version', 'has a newer version of the format'],
  'd-fstype-wrong': ['fs-type', 'holds another kind of file system'],
  'd-volume-missing': ['missing-volumes', 'This file system spans 2 volumes, but 1 was given'],
  'd-size-too-big': ['truncated', 'is truncated'],
  'd-trunc-tail': ['truncated', 'is truncated'],
  'd-trunc-data': ['truncated', 'is truncated'],
  'd-trunc-2hdr': ['truncated', 'is truncated'],
  'd-trunc-32k': ['too-small', 'is too short to hold a HAMMER2 volume'],
  'd-trunc-0': ['too-small', 'is too short to hold a HAMMER2 volume'],
};

/** These go back to the header before the newest one, in which the PFS "NEWER" does not exist yet. */
const OLDER_HEADER = new Set(['d-hdr-newest-crc', 'd-hdr-newest-sector0', 'd-magic-wrong-newest']);

/** Damage that a reader does not meet: what it asks for is there, or lies where nothing checks. */
const UNNOTICED = new Set(['d-data-nocheck', 'd-key-order', 'd-nlinks-wrong', 'd-inode-huge-size', 'd-dir-loop']);

describe('damaged images', { skip: notBuilt }, () => {
  let server;
  let browser;
  let space;
  const bases = new Map();

  before(async () => {
    space = scratch();
    server = await serve(DIST, HERE);
    browser = await openPage(server);
    const golden = goldenImages();
    for (const name of new Set(damagedImages().map(({ base }) => base))) {
      const image = golden.get(name);
      bases.set(name, { path: unpack(image, space.folder)[0], manifest: image.manifest() });
    }
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    space?.close();
  });

  const make = (damaged, folder) => makeDamaged(damaged, bases.get(damaged.base).path, folder);

  for (const damaged of damagedImages()) {
    test(`${damaged.name}: ${damaged.damage}`, async () => {
      const { folder, close } = scratch();
      try {
        const path = make(damaged, folder);
        const result = await inPage(browser.page, [path], 'walk');
        if (damaged.name in REFUSED) {
          const [reason, sentence] = REFUSED[damaged.name];
          assert.equal(result.refused?.reason, reason, JSON.stringify(result.refused));
          await openFiles(browser.page, [path]);
          const text = await browser.page.locator('#start-error').innerText();
          assert.ok(text.includes(sentence), text);
          return;
        }
        assert.equal(result.refused, undefined, result.refused?.message);
        examine(damaged, result);
      } finally {
        close();
      }
    });
  }

  function examine(damaged, result) {
    const { manifest } = bases.get(damaged.base);
    const all = damaged.affected_paths.includes('*');
    const affected = damaged.affected_paths.map((path) => Buffer.from(path.replace(/\/\*$/, '/')).toString('hex'));
    const except = (pathHex) => affected.some((each) => pathHex === each || (each.endsWith('2f') && pathHex.startsWith(each)));
    const failures = [...result.brokenPfs];
    for (const [label, { entries }] of Object.entries(manifest.pfs)) {
      if (label === 'NEWER' && OLDER_HEADER.has(damaged.name)) {
        assert.equal(result.trees[label], undefined);
        continue;
      }
      const tree = result.trees[label];
      if (Array.isArray(tree)) {
        failures.push(...tree.flatMap((each) => each.error ?? each.brokenName ?? each.unlistable ?? []));
        if (!all || label !== 'DATA') compare(tree, entries, { except, where: `${label}:` });
      } else {
        assert.ok(all, `${label} cannot be opened: ${tree?.error.message}`);
        if (tree) failures.push(tree.error);
      }
    }
    for (const failure of failures) assert.equal(failure.code, 'EIO', failure.message);
    const noticed = damaged.affected_paths.length > 0 && !UNNOTICED.has(damaged.name);
    if (noticed) {
      assert.notEqual(failures.length, 0, damaged.expect);
      assert.ok(failures.some((each) => each.reason === 'damaged' && (each.place || each.message)), JSON.stringify(failures));
    }
  }

  test('only the damaged range of a file fails', async () => {
    const damaged = damagedImages().find(({ name }) => name === 'd-data-block');
    const { folder, close } = scratch();
    try {
      const files = [make(damaged, folder)];
      const [start, end] = damaged.file_range;
      const [file] = damaged.affected_paths;
      const read = (offset, length) => inPage(browser.page, files, 'range', 'DATA', file, offset, length);
      const intact = (offset, length) => inPage(browser.page, [bases.get(damaged.base).path], 'range', 'DATA', file, offset, length);
      assert.equal((await read(start, 1)).error?.code, 'EIO');
      assert.equal((await read(end - 1, 1)).error?.code, 'EIO');
      assert.deepEqual(await read(start - 100, 100), await intact(start - 100, 100));
      assert.deepEqual(await read(end, 100), await intact(end, 100));
    } finally {
      close();
    }
  });

  test('what is left of a truncated image can be read on request', async () => {
    const damaged = damagedImages().find(({ name }) => name === 'd-trunc-tail');
    const { folder, close } = scratch();
    try {
      const { page } = browser;
      await openFiles(page, [make(damaged, folder)]);
      await page.getByRole('button', { name: 'Read what is left' }).click();
      await page.getByRole('row', { name: /blocks/ }).waitFor();
    } finally {
      close();
    }
  });
});
