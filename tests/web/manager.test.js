// The file manager by itself, over a stand-in for the module (fake/): keys, roles, downloads, errors.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { FAKE, openFiles, openPage, PAGE, scratch, serve } from './harness.js';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('file manager', () => {
  let server;
  let space;
  let browser;
  let page;

  before(async () => {
    server = await serve(FAKE, PAGE);
    space = scratch();
    for (const name of ['plain', 'not-hammer2', 'truncated', 'byte-order', 'missing-volumes', 'too-small', 'no-header']) {
      writeFileSync(join(space.folder, `${name}.img`), 'x');
    }
    browser = await openPage(server);
    page = browser.page;
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    space?.close();
  });
  beforeEach(async () => {
    await page.goto('about:blank');
    await page.goto(server.url);
  });
  afterEach(async () => {
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.emulateMedia({ colorScheme: 'light' });
  });

  const image = (name) => join(space.folder, `${name}.img`);
  const open = () => openFiles(page, image('plain'));
  const active = () => page.evaluate(() => document.activeElement.closest('.row')?.querySelector('.label').textContent ?? null);
  const selected = () => page.locator('.list-body .row[aria-selected="true"] .label').allTextContents();
  const rows = () => page.locator('.list-body .row');
  const announced = (text) => page.locator('#status').filter({ hasText: text }).waitFor({ state: 'attached' });
  const row = (name) => rows().filter({ has: page.getByText(name, { exact: true }) });

  async function enter(folder) {
    await row(folder).dblclick();
    await page.locator('#crumbs a[aria-current]').filter({ hasText: folder }).waitFor();
    await page.locator('.list[aria-busy="false"]').waitFor();
  }

  async function download(action) {
    const [got] = await Promise.all([page.waitForEvent('download'), action()]);
    const path = join(space.folder, `download-${Date.now()}-${Math.random()}`);
    await got.saveAs(path);
    return { name: got.suggestedFilename(), path, bytes: readFileSync(path) };
  }

  async function press(...keys) {
    for (const key of keys) await page.keyboard.press(key);
  }

  // --- opening -----------------------------------------------------------------------------------

  for (const [reason, sentence, advice] of [
    ['not-hammer2', '\u201cnot-hammer2.img\u201d is not a HAMMER2 image.', 'Choose the image of the partition'],
    ['truncated', 'is truncated: its volume has 67,108,864 bytes, the file only 50,331,648 bytes.', 'Copy the image again'],
    ['byte-order', 'was written by a machine of the opposite byte order.', 'Copy the files out on a machine like the one'],
    ['missing-volumes', 'This file system spans 2 volumes, but 1 was given.', 'Choose the files of all volumes at once'],
    ['too-small', 'is too short to hold a HAMMER2 volume', 'was copied whole'],
    ['no-header', 'has no intact volume header', 'restore the volume from a backup'],
  ]) {
    test(`refusal: ${reason}`, async () => {
      await openFiles(page, image(reason));
      const text = await page.getByRole('alert').innerText();
      assert.ok(text.includes(sentence), text);
      assert.ok(text.includes(advice), text);
    });
  }

  test('a bad image does not cost the one that is open', async () => {
    await open();
    await page.locator('#files').setInputFiles(image('not-hammer2'));
    await page.locator('#message[open]').waitFor();
    await press('Escape');
    await enter('docs');
  });

  test('files can be dropped', async () => {
    const drop = (type) => page.evaluate((event) => {
      const data = new DataTransfer();
      data.items.add(new File(['x'], 'plain.img'));
      document.body.dispatchEvent(new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true }));
    }, type);
    await drop('dragenter');
    assert.ok(await page.locator('#drop-veil').isVisible());
    await drop('drop');
    await row('alpha.txt').waitFor();
    assert.ok(await page.locator('#drop-veil').isHidden());
  });

  test('the first file system that is no snapshot and not LOCAL is shown; others can be chosen', async () => {
    await open();
    assert.equal(await page.locator('#pfs').inputValue(), 'DATA');
    await page.locator('#pfs').selectOption('DATA.2026-03-01');
    await row('old.txt').waitFor();
    assert.match(page.url(), /#\/DATA\.2026-03-01$/);
    await page.locator('#pfs').selectOption('LOCAL');
    await page.getByText('This folder is empty.').waitFor();
  });

  // --- keyboard ----------------------------------------------------------------------------------

  test('the list is one tab stop, and arrows, Home and End walk it', async () => {
    await open();
    assert.equal(await active(), 'docs');
    assert.equal(await page.locator('.list-body [tabindex="0"]').count(), 1);
    await press('ArrowDown');
    assert.equal(await active(), 'empty');
    assert.deepEqual(await selected(), ['empty']);
    await press('End');
    assert.equal(await active(), 'unreadable');
    await press('ArrowDown');
    assert.equal(await active(), 'unreadable');
    await press('Home', 'ArrowUp');
    assert.equal(await active(), 'docs');
  });

  test('typing finds a name, the same letter again the next one', async () => {
    await open();
    await page.keyboard.type('be');
    assert.equal(await active(), 'beta.txt');
    await open();
    await page.keyboard.type('b');
    assert.equal(await active(), 'beta.txt');
    await page.keyboard.type('b');
    assert.equal(await active(), 'big.bin');
  });

  test('Enter opens, Backspace and Alt+Up go back to where one was', async () => {
    await open();
    await page.keyboard.type('docs');
    await press('Enter');
    await row('drafts').waitFor();
    await page.locator('.list[aria-busy="false"]').waitFor();
    assert.equal(await active(), 'drafts');
    await press('Enter');
    await row('one.txt').waitFor();
    await press('Backspace');
    await row('readme.txt').waitFor();
    await page.waitForFunction(() => document.activeElement.closest('.row')?.dataset.name === 'drafts');
    await press('Alt+ArrowUp');
    await page.waitForFunction(() => document.activeElement.closest('.row')?.dataset.name === 'docs');
  });

  test('Backspace works in an empty folder', async () => {
    await open();
    await enter('empty');
    await page.getByText('This folder is empty.').waitFor();
    await press('Backspace');
    await row('alpha.txt').waitFor();
  });

  test('Space, Shift and Ctrl select; Escape clears', async () => {
    await open();
    await page.keyboard.type('alpha');
    await press('Shift+ArrowDown', 'Shift+ArrowDown');
    assert.deepEqual(await selected(), ['alpha.txt', 'beta.txt', 'big.bin']);
    await press('Control+ArrowDown', 'Control+ArrowDown', 'Control+Space');
    assert.ok((await selected()).length >= 1);
    await press('Escape');
    assert.deepEqual(await selected(), []);
    await press('Control+a');
    const total = await page.locator('#list').getAttribute('aria-rowcount');
    await page.locator('#foot-items').filter({ hasText: `${Number(total) - 1} selected` }).waitFor();
  });

  test('the tree opens and closes with arrows and follows the list', async () => {
    await open();
    const tree = page.getByRole('tree');
    await tree.getByRole('treeitem', { name: 'docs' }).waitFor();
    await tree.locator('[tabindex="0"]').focus();
    await press('ArrowDown', 'ArrowRight');
    await tree.getByRole('treeitem', { name: 'drafts' }).waitFor();
    await press('ArrowRight', 'Enter');
    await row('one.txt').waitFor();
    await tree.locator('[aria-selected="true"]').filter({ hasText: 'drafts' }).waitFor();
    await press('ArrowLeft', 'ArrowLeft');
    assert.equal(await tree.getByRole('treeitem', { name: 'drafts' }).count(), 0);
    const docs = tree.getByRole('treeitem', { name: 'docs' });
    assert.equal(await docs.getAttribute('aria-expanded'), 'false');
    assert.equal(await docs.getAttribute('aria-level'), '2');
    assert.equal(await docs.getAttribute('aria-setsize'), '4');
    assert.equal(await docs.getAttribute('aria-posinset'), '1');
    await press('End');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'pictures');
  });

  // --- places ------------------------------------------------------------------------------------

  test('the URL carries the path, and back leads back', async () => {
    await open();
    await enter('docs');
    await enter('drafts');
    assert.match(page.url(), /#\/DATA\/docs\/drafts$/);
    await page.goBack();
    await row('readme.txt').waitFor();
    await page.goForward();
    await row('two.txt').waitFor();
    await page.reload();
    await openFiles(page, image('plain'));
    await row('two.txt').waitFor();
  });

  test('the URL of a file leads to it', async () => {
    await page.goto(`${server.url}#/DATA/docs/notes.md`);
    await open();
    await row('notes.md').waitFor();
    assert.deepEqual(await selected(), ['notes.md']);
  });

  test('another image opens where the one before was, or at its root', async () => {
    await open();
    await enter('docs');
    await open();
    await row('readme.txt').waitFor();
    await page.locator('#pfs').selectOption('DATA.2026-03-01');
    await row('old.txt').waitFor();
    await page.evaluate(() => history.replaceState(null, '', '#/DATA.2026-03-01/docs'));
    await open();
    await row('old.txt').waitFor();
    assert.match(page.url(), /#\/DATA\.2026-03-01$/);
  });

  test('the URL of nothing says so', async () => {
    await page.goto(`${server.url}#/DATA/nowhere`);
    await openFiles(page, image('plain'));
    await page.locator('.list-message').getByText('No such file or folder.').waitFor();
  });

  test('20,000 entries: only what can be seen exists, and both ends are near', async () => {
    await open();
    await enter('many');
    await page.locator('#foot-items').filter({ hasText: '20,000 items' }).waitFor();
    assert.equal(await page.locator('#list').getAttribute('aria-rowcount'), '20001');
    await press('End');
    assert.equal(await active(), 'entry-19999.txt');
    await press('PageUp');
    assert.notEqual(await active(), 'entry-19999.txt');
    await page.keyboard.type('entry-12345');
    assert.equal(await active(), 'entry-12345.txt');
    assert.equal(await row('entry-12345.txt').getAttribute('aria-rowindex'), '12347');
    assert.ok((await rows().count()) < 100);
    await page.locator('.list-body').evaluate((body) => body.scrollTo(0, 0));
    await row('entry-00000.txt').waitFor();
    assert.equal(await active(), 'entry-12345.txt');
  });

  test('columns sort, and say so', async () => {
    await open();
    const names = () => page.locator('.list-body .row').evaluateAll((all) =>
      all.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((each) => each.dataset.name));
    await page.getByRole('button', { name: 'Size' }).click();
    assert.deepEqual((await names()).slice(0, 6), ['docs', 'empty', 'many', 'pictures', 'endless.bin', 'large.bin']);
    assert.equal(await page.getByRole('columnheader', { name: 'Size' }).getAttribute('aria-sort'), 'descending');
    await announced('Sorted by size, descending');
    await page.getByRole('button', { name: 'Name' }).click();
    await page.getByRole('button', { name: 'Name' }).click();
    assert.deepEqual((await names()).slice(0, 4), ['pictures', 'many', 'empty', 'docs']);
    await page.getByRole('button', { name: 'Type' }).click();
    await page.getByRole('button', { name: 'Modified' }).click();
    assert.equal(await page.getByRole('columnheader', { name: 'Modified' }).getAttribute('aria-sort'), 'descending');
  });

  // --- preview -----------------------------------------------------------------------------------

  test('text, pictures, bytes and damage are shown for what they are', async () => {
    await open();
    const preview = page.locator('#preview');
    await row('alpha.txt').click();
    await preview.locator('pre').filter({ hasText: 'alpha' }).waitFor();
    await row('big.bin').click();
    await preview.getByText('Not text: the first 512 B').waitFor();
    await row('damaged.bin').click();
    await preview.getByText('The image is damaged here: data block with key 0x0 at 0x1c00000').waitFor();
    await row('unreadable').click();
    await preview.getByText('check code is 1, the block has 2').waitFor();
    await enter('pictures');
    await row('dot.png').click();
    await preview.getByText('1 \u00d7 1 pixels').waitFor();
    assert.ok(await preview.getByRole('img', { name: 'Picture dot.png' }).isVisible());
  });

  test('links lead to their target, or say that there is none', async () => {
    await open();
    await row('broken').dblclick();
    await page.getByText('points to something that is not in this file system').first().waitFor();
    await press('Escape');
    await row('link').dblclick();
    await row('readme.txt').waitFor();
    assert.deepEqual(await selected(), ['readme.txt']);
  });

  test('where there is no room the preview is a dialog, and the focus comes back', async () => {
    await page.setViewportSize({ width: 600, height: 700 });
    await open();
    await page.keyboard.type('alpha');
    await press('Enter');
    await page.locator('#preview-dialog[open] pre').waitFor();
    await press('Escape');
    assert.equal(await active(), 'alpha.txt');
  });

  // --- downloads ---------------------------------------------------------------------------------

  test('a file is downloaded whole', async () => {
    await open();
    await row('big.bin').click();
    const { name, bytes } = await download(() => page.locator('#save').click());
    assert.equal(name, 'big.bin');
    assert.equal(bytes.length, 9 * 1024 * 1024 + 17);
    assert.ok(bytes.every((byte, at) => byte === ((at * 31 + (at >> 8)) & 0xff)));
    await announced('big.bin: Saved, 9.00 MiB');
  });

  const unzip = (path) => JSON.parse(execFileSync('python3', ['-c', `
import json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
print(json.dumps({i.filename: z.read(i).decode("latin-1") for i in z.infolist()}))`, path], { maxBuffer: 1 << 28 }));

  test('a folder is downloaded as a ZIP', async () => {
    await open();
    await row('docs').click();
    const { name, path } = await download(() => page.locator('#save').click());
    assert.equal(name, 'docs.zip');
    const found = unzip(path);
    assert.deepEqual(Object.keys(found).sort(), ['docs/', 'docs/drafts/', 'docs/drafts/one.txt', 'docs/drafts/two.txt', 'docs/notes.md', 'docs/readme.txt']);
    assert.equal(found['docs/drafts/two.txt'], '2');
  });

  test('several at once are a ZIP, with a report of what is not whole', async () => {
    await open();
    await page.keyboard.type('alpha');
    await row('damaged.bin').click({ modifiers: ['Control'] });
    await row('pipe').click({ modifiers: ['Control'] });
    await row('link').click({ modifiers: ['Control'] });
    const { name, path } = await download(() => page.locator('#save').click());
    assert.equal(name, 'DATA.zip');
    const found = unzip(path);
    assert.equal(found['alpha.txt'], 'alpha\n');
    assert.equal(found.link, 'docs/readme.txt');
    assert.match(found['FARRIER-NOT-COMPLETE.txt'], /\/damaged\.bin: data block/);
    assert.match(found['FARRIER-NOT-COMPLETE.txt'], /\/pipe: a ZIP cannot hold/);
    await page.locator('.job').getByText('could not be packed whole').waitFor();
  });

  test('Escape cancels a download', async () => {
    await open();
    await row('endless.bin').click();
    await page.locator('#save').click();
    await page.locator('.job progress').waitFor();
    await page.locator('#list .row[tabindex="0"]').focus();
    await press('Escape', 'Escape');
    await announced('Cancelled');
    assert.equal(await page.locator('.job').count(), 0);
  });

  /** Puts a file of the page's private storage in place of what a person chooses in the dialog. */
  const choosePlace = () => page.evaluate(() => {
    globalThis.showSaveFilePicker = async ({ suggestedName }) => {
      const folder = await navigator.storage.getDirectory();
      return folder.getFileHandle(suggestedName, { create: true });
    };
  });
  const chosenSize = (name) => page.evaluate(async (wanted) => {
    const folder = await navigator.storage.getDirectory();
    const { size } = await (await folder.getFileHandle(wanted)).getFile();
    await folder.removeEntry(wanted);
    return size;
  }, name);

  test('a large download is streamed to the place that was chosen', async () => {
    await open();
    await choosePlace();
    await row('large.bin').click();
    await page.locator('#save').click();
    await announced('large.bin: Saved, 257 MiB');
    assert.equal(await chosenSize('large.bin'), 257 * 1024 * 1024);
  });

  test('a large ZIP asks for its place once its size is known', async () => {
    await open();
    await choosePlace();
    await row('large.bin').click();
    await row('alpha.txt').click({ modifiers: ['Control'] });
    await page.locator('#save').click();
    await page.getByRole('button', { name: 'Save as\u2026' }).click();
    await announced('DATA.zip: Saved, 2 items, 257 MiB');
    assert.ok((await chosenSize('DATA.zip')) > 257 * 1024 * 1024);
  });

  test('a crash of the module is told, and opening again helps', async () => {
    await open();
    await row('crash.bin').click();
    await page.locator('#preview').getByText('Farrier failed on this image (unreachable).').waitFor();
    await open();
    await enter('docs');
  });

  // --- volume and check --------------------------------------------------------------------------

  test('the volume tells its facts and leads to its snapshots', async () => {
    await open();
    await page.locator('#show-facts').click();
    const dialog = page.getByRole('dialog', { name: 'Volume' });
    await dialog.getByText('5b74ff49-ba1e-6e47-b317-f7a835231915').waitFor();
    await dialog.getByRole('link', { name: 'DATA.2026-03-01' }).click();
    await row('old.txt').waitFor();
  });

  test('a check shows progress and findings, and can be cancelled', async () => {
    await open();
    await page.locator('#show-check').click();
    const dialog = page.getByRole('dialog', { name: 'Check' });
    await dialog.getByRole('button', { name: 'Start' }).click();
    await dialog.getByText('block 200 has the wrong check code').waitFor();
    assert.ok(await dialog.getByRole('progressbar').isVisible());
    await press('Escape');
    await dialog.getByText('Cancelled before the end').waitFor();
    await press('Escape');
    assert.ok(await dialog.isHidden());
  });

  // --- access ------------------------------------------------------------------------------------

  async function audit(name) {
    await page.evaluate(axeSource);
    const violations = await page.evaluate(async () => {
      const { violations: found } = await globalThis.axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
      });
      return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`);
    });
    assert.deepEqual(violations, [], name);
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${name}: ${wide} px too wide`);
    if (process.env.FARRIER_SCREENSHOTS) {
      mkdirSync(process.env.FARRIER_SCREENSHOTS, { recursive: true });
      await page.screenshot({ path: join(process.env.FARRIER_SCREENSHOTS, `${name}.png`) });
    }
  }

  for (const colorScheme of ['light', 'dark']) {
    for (const [size, width, height] of [['desktop', 1280, 800], ['zoom200', 640, 400], ['phone', 320, 640]]) {
      test(`no violations, nothing too wide: ${colorScheme}, ${size}`, async () => {
        const look = (name) => audit(`${size}-${colorScheme}-${name}`);
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height });
        await look('start');
        await openFiles(page, image('truncated'));
        await look('refused');
        await open();
        await page.keyboard.type('alpha');
        await look('list');
        await enter('empty');
        await look('empty');
        await page.locator('#up').click();
        await row('docs').waitFor();
        await page.locator('#list .row[tabindex="0"]').focus();
        await page.keyboard.type('damaged');
        if (size !== 'desktop') await press('Enter');
        await page.locator('#preview .problem').waitFor();
        await look('preview');
        if (size !== 'desktop') await press('Escape');
        await page.locator('#show-facts').click();
        await look('facts');
        await press('Escape');
        await page.locator('#show-check').click();
        await page.locator('#check-start').click();
        await page.locator('#check-findings').getByText('block 200 has').waitFor();
        await press('Escape');
        await page.locator('#check-text').getByText('Cancelled before').waitFor();
        await look('check');
        await press('Escape');
        if (size === 'phone') {
          await page.locator('#show-tree').click();
          await page.getByRole('treeitem', { name: 'docs' }).waitFor();
          await look('tree');
        }
        await page.locator('#list .row[tabindex="0"]').focus();
        await press('Home', 'Escape');
        await page.locator('#save').click();
        await page.locator('.job progress').waitFor();
        await look('job');
        await page.getByRole('button', { name: 'Cancel' }).click();
      });
    }
  }
});
