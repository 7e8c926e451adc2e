// Every entry of every golden image, read by the page's worker, against what its manifest says.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { DIST, goldenImages, HERE, notBuilt, openPage, scratch, serve, unpack } from './harness.js';
import { compare, inPage } from './images.js';

// Four gigabytes of stored blocks in one file: the native tests read it, in a page it takes minutes.
const TOO_LONG = new Set(['freemap-node']);

describe('golden images', { skip: notBuilt }, () => {
  let server;
  let browser;
  let space;
  let total = 0;

  before(async () => {
    space = scratch();
    server = await serve(DIST, HERE);
    browser = await openPage(server);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    space?.close();
  });

  for (const image of goldenImages().values()) {
    if (TOO_LONG.has(image.name)) continue;
    test(image.name, async (context) => {
      const manifest = image.manifest();
      const { folder, close } = scratch();
      try {
        // Volumes may be given in any order.
        const files = unpack(image, folder).reverse();
        const result = await inPage(browser.page, files, 'walk');
        assert.equal(result.refused, undefined, result.refused?.message);
        assert.deepEqual(result.brokenPfs, []);
        assert.equal(result.size, manifest.on_media.total_size);
        assert.deepEqual(Object.keys(result.trees).sort(), Object.keys(manifest.pfs).sort());
        let equal = 0;
        for (const [label, { entries }] of Object.entries(manifest.pfs)) {
          equal += compare(result.trees[label], entries, { where: `${label}:` });
        }
        total += equal;
        context.diagnostic(`${equal} entries equal`);
      } finally {
        close();
      }
    });
  }

  test('there were entries to compare', (context) => {
    context.diagnostic(`${total} entries in all`);
    assert.ok(total > 0);
  });
});
