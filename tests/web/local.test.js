// Local volumes in the built page: what is written is there after a reload, on media that checkers accept.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, normalize } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { compare, inPage } from './images.js';
import { DIST, HERE, notBuilt, openPage, scratch, serve } from './harness.js';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const repository = normalize(join(HERE, '../..'));

/** The command, where it is built; and a checker of somebody else's, where it lies beside the checkout. */
const FARRIER = [process.env.FARRIER, join(process.env.CARGO_TARGET_DIR ?? join(repository, 'target'), 'debug/farrier')].find((path) => path && existsSync(path));
const CHECKER = [join(repository, '../shared/tools/check-image.py')].find(existsSync);

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

const FULL_DISK = `
let isFull = false;
new BroadcastChannel('disk').onmessage = () => { isFull = true; };
const put = IDBObjectStore.prototype.put;
IDBObjectStore.prototype.put = function (...args) {
  if (isFull) throw new DOMException('The current transaction exceeded its quota limitations.', 'QuotaExceededError');
  return put.apply(this, args);
};
`;

describe('local volumes', { skip: notBuilt }, () => {
  let server;
  let space;
  let browser;
  let page;

  before(async () => {
    space = scratch();
    // The page's own device, on a disk that a test can fill up.
    writeFileSync(join(space.folder, 'device.js'), FULL_DISK + readFileSync(join(DIST, 'device.js')));
    server = await serve(space.folder, DIST, HERE);
  });
  after(async () => {
    await server?.close();
    space?.close();
  });
  // A profile of its own for each: no volume of another test is there.
  beforeEach(async () => {
    browser = await openPage(server);
    page = browser.page;
  });
  afterEach(async () => browser?.close());

  const row = (name) => page.locator('.list-body .row').filter({ has: page.getByText(name, { exact: true }) });
  const names = () => page.locator('.list-body .row .label').allTextContents();
  const saved = () => page.locator('#foot-saved[data-state="saved"]').waitFor();
  const quiet = () => page.locator('.list[aria-busy="false"]').waitFor();
  const announced = (text) => page.locator('#status').filter({ hasText: text }).waitFor({ state: 'attached' });
  const item = (name) => page.locator('#local-list li').filter({ has: page.locator('strong').getByText(name, { exact: true }) });

  async function shot(name) {
    if (!process.env.FARRIER_SCREENSHOTS) return;
    mkdirSync(process.env.FARRIER_SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: join(process.env.FARRIER_SCREENSHOTS, `local-${name}.png`) });
  }

  async function create(name, { size = 67108864, compression = 'lz4' } = {}) {
    await page.locator('#local-new').click();
    await page.locator('#new-volume-name').fill(name);
    await page.locator('#new-volume-size').selectOption(String(size));
    await page.locator('#new-volume-compression').selectOption(compression);
    await page.locator('#new-volume-make').click();
    await page.locator('#edit-bar').waitFor();
    await quiet();
  }

  function makeFiles(folder) {
    const root = join(space.folder, folder);
    mkdirSync(join(root, 'photos/2026'), { recursive: true });
    const files = {
      'short.txt': Buffer.from('short\n'),
      'empty.bin': Buffer.alloc(0),
      'noise.bin': randomBytes(5_000_011),
      'photos/one.raw': randomBytes(70_000),
      'photos/2026/zeros.raw': Buffer.alloc(300_000),
      'photos/2026/größe 日本.txt': Buffer.from('grüße\n'.repeat(5000)),
    };
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(root, name), bytes);
    return { root, files };
  }

  async function uploadFiles(paths) {
    await page.locator('#upload-input').setInputFiles(paths);
    await announced(/uploaded/);
    await saved();
  }

  async function uploadFolder(path) {
    await page.locator('#upload-folder-input').setInputFiles(path);
    await announced(/uploaded/);
    await saved();
  }

  async function download(action) {
    const [got] = await Promise.all([page.waitForEvent('download'), action()]);
    const path = join(space.folder, `download-${Date.now()}-${Math.random()}`);
    await got.saveAs(path);
    return path;
  }

  async function exportImage() {
    await page.locator('#show-facts').click();
    return download(() => page.locator('#export-image').click());
  }

  /** Everything that checkers say of an image has to be nothing. */
  function assertClean(image) {
    if (FARRIER) {
      const { status, stdout, stderr } = spawnSync(FARRIER, ['check', image], { encoding: 'utf8' });
      assert.equal(status, 0, `farrier check: ${stdout}${stderr}`);
    }
    if (CHECKER) {
      const { status, stdout, stderr } = spawnSync('python3', [CHECKER, image], { encoding: 'utf8', maxBuffer: 1 << 28 });
      assert.equal(status, 0, `check-image.py: ${stdout}${stderr}`);
    }
  }

  /** Paths and hashes of all files of a file system of the image, read by the page itself. */
  async function contents(image, label) {
    const { trees } = await inPage(page, [image], 'walk', {});
    return Object.fromEntries(trees[label].filter((each) => each.type === 'file').map((each) => [Buffer.from(each.pathHex, 'hex').toString(), each.sha256]));
  }

  const hashes = (files, prefix = '/') => Object.fromEntries(Object.entries(files).map(([name, bytes]) => [prefix + name, sha256(bytes)]));
  const sorted = (object) => Object.fromEntries(Object.entries(object).sort());

  async function check() {
    await page.locator('#show-check').click();
    await page.locator('#check-start').click();
    await page.locator('#check:not([aria-busy="true"]) #check-start:not([hidden])').waitFor();
    const text = await page.locator('#check-text').innerText();
    await page.locator('#check-close').click();
    return text;
  }

  test('what was written is there after a reload, in the image, and after its import', async () => {
    const { root, files } = makeFiles('upload');
    await page.locator('#local-empty').waitFor();
    await create('Notes');
    await shot('empty');
    await uploadFiles(['short.txt', 'empty.bin', 'noise.bin'].map((name) => join(root, name)));
    await uploadFolder(join(root, 'photos'));
    await shot('files');

    // The tab comes back to the volume by itself.
    await page.reload();
    await row('noise.bin').waitFor();
    assert.deepEqual((await names()).sort(), ['empty.bin', 'noise.bin', 'photos', 'short.txt']);
    await row('noise.bin').click();
    assert.equal(sha256(readFileSync(await download(() => page.locator('#save').click()))), sha256(files['noise.bin']));

    await page.locator('#show-snapshots').click();
    await page.locator('#snapshot-label').fill('before');
    await page.locator('#snapshot-take').click();
    await page.locator('#snapshot-list').getByRole('button', { name: 'Open before' }).waitFor();
    await shot('snapshots');
    await page.keyboard.press('Escape');

    await row('short.txt').click();
    await page.keyboard.press('F2');
    await page.locator('#ask-input').fill('renamed.txt');
    await page.keyboard.press('Enter');
    await row('renamed.txt').waitFor();
    await row('noise.bin').click();
    await page.keyboard.press('Delete');
    await page.locator('#ask').getByRole('button', { name: 'Delete', exact: true }).click();
    await announced('1 item deleted');
    await saved();

    // Without the tab's memory of it: the list leads back.
    await page.locator('#close-volume').click();
    await page.reload();
    await item('Notes').getByRole('button', { name: 'Open Notes' }).click();
    await row('renamed.txt').waitFor();
    assert.deepEqual((await names()).sort(), ['empty.bin', 'photos', 'renamed.txt']);
    assert.equal(await check(), 'The volume is intact.');

    const image = await exportImage();
    assert.equal(statSync(image).size, 67108864);
    assertClean(image);
    const { 'short.txt': renamed, 'noise.bin': gone, ...kept } = files;
    assert.deepEqual(sorted(await contents(image, 'Notes')), sorted(hashes({ ...kept, 'renamed.txt': renamed })));
    assert.deepEqual(sorted(await contents(image, 'before')), sorted(hashes(files)));

    await page.locator('#close-volume').click();
    const copy = join(space.folder, 'copy.img');
    copyFileSync(image, copy);
    await page.locator('#import-input').setInputFiles(copy);
    await row('renamed.txt').waitFor();
    await page.locator('#foot-volume').getByText('copy').waitFor();
    const again = await exportImage();
    assert.equal(sha256(readFileSync(again)), sha256(readFileSync(image)));
  });

  test('the script of all hosts leaves what it leaves elsewhere', async () => {
    const script = JSON.parse(readFileSync(join(repository, 'tests/script.json')));
    const manifest = JSON.parse(readFileSync(join(repository, 'tests/script-manifest.json')));
    await page.evaluate(async ([steps, name]) => (await import('/script.js')).runScript(steps, name), [script, 'Script']);
    await page.reload();
    await item('Script').getByRole('button', { name: 'Open Script' }).click();
    await row('and').waitFor();
    const image = await exportImage();
    assertClean(image);
    const { trees } = await inPage(page, [image], 'walk', {});
    assert.deepEqual(Object.keys(trees).sort(), Object.keys(manifest.pfs).sort());
    for (const [label, { entries }] of Object.entries(manifest.pfs)) compare(trees[label], entries.map((entry) => ({ uid: 0, gid: 0, ...entry })), { where: `${label}: ` });
  });

  test('a folder can be dropped, names that are taken are asked about', async () => {
    await create('Drop');
    const drop = (text) => page.evaluate((content) => {
      const data = new DataTransfer();
      data.items.add(new File([content], 'note.txt'));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }, text);
    await drop('first');
    await announced(/uploaded/);
    await row('note.txt').waitFor();
    await drop('second');
    await page.locator('#ask').getByRole('button', { name: 'Leave them' }).click();
    await announced('1 name left');
    await drop('third');
    await page.locator('#ask').getByRole('button', { name: 'Replace them' }).click();
    await announced('1 file uploaded');
    await row('note.txt').click();
    await page.locator('#preview pre').filter({ hasText: 'third' }).waitFor();
    assert.deepEqual(await names(), ['note.txt']);
  });

  test('texts and folders are made and edited, names that are taken or impossible are refused', async () => {
    await create('Texts');
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('docs');
    await page.keyboard.press('Enter');
    await row('docs').waitFor();
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('docs');
    await page.keyboard.press('Enter');
    await page.locator('#ask-problem').getByText('This name is taken.').waitFor();
    await page.locator('#ask-input').fill('a/b');
    await page.keyboard.press('Enter');
    await page.locator('#ask-problem').getByText('Nothing can be called so.').waitFor();
    await shot('refused');
    await page.keyboard.press('Escape');
    await page.locator('#new-text').click();
    await page.keyboard.press('Enter');
    await page.locator('#editor-text').fill('one\ntwo\n');
    await page.locator('#editor-save').click();
    await row('New text.txt').waitFor();
    await page.locator('#preview pre').filter({ hasText: 'two' }).waitFor();
    await page.locator('#preview').getByRole('button', { name: 'Edit' }).click();
    await page.locator('#editor-text').fill('1');
    await page.locator('#editor-save').click();
    await page.locator('#preview pre').filter({ hasText: /^1$/ }).waitFor();
    await row('docs').click();
    await page.keyboard.press('Delete');
    await page.locator('#ask').getByRole('button', { name: 'Delete', exact: true }).click();
    await announced('1 item deleted');
    assert.deepEqual(await names(), ['New text.txt']);
  });

  test('snapshots are shown, left alone, and deleted; their space comes back', async () => {
    const { root } = makeFiles('snapshots');
    await create('Snaps');
    await uploadFiles([join(root, 'noise.bin')]);
    await page.locator('#show-snapshots').click();
    await page.locator('#snapshot-label').fill('kept');
    await page.locator('#snapshot-take').click();
    const list = page.locator('#snapshot-list');
    await list.getByRole('button', { name: 'Open kept' }).click();
    await page.locator('#snapshot-bar').waitFor();
    assert.ok(await page.locator('#edit-bar').isHidden());
    await page.locator('#leave-snapshot').click();
    await page.locator('#edit-bar').waitFor();
    await row('noise.bin').click();
    await page.keyboard.press('Delete');
    await page.locator('#ask').getByRole('button', { name: 'Delete', exact: true }).click();
    await announced('1 item deleted');
    await page.locator('#show-snapshots').click();
    await list.getByRole('button', { name: 'Delete… kept' }).click();
    await page.locator('#ask').getByRole('button', { name: 'Delete', exact: true }).click();
    await page.locator('#snapshot-empty').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#show-facts').click();
    await page.locator('#free-unused').click();
    await announced(/MiB freed/);
    assert.equal(await check(), 'The volume is intact.');
  });

  test('a second tab is refused, and gets it when the first lets go', async () => {
    await create('Shared');
    const second = await browser.context.newPage();
    await second.goto(server.url);
    const open = second.locator('#local-list li').getByRole('button', { name: 'Open Shared' });
    await second.locator('#local-list').getByText('open in another tab').waitFor();
    await open.click();
    await second.getByRole('alert').getByText('This volume is open in another tab.').waitFor();
    await page.close();
    await open.click();
    await second.locator('#edit-bar').waitFor();
  });

  test('a browser without room says so, and what was saved before stays', async () => {
    await create('Full');
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('safe');
    await page.keyboard.press('Enter');
    await row('safe').waitFor();
    await saved();
    const { root } = makeFiles('full');
    // Told before anything is written where the size is known.
    await page.evaluate(() => {
      navigator.storage.estimate = async () => ({ quota: 1_000_000, usage: 0 });
    });
    await page.locator('#upload-input').setInputFiles(join(root, 'noise.bin'));
    await announced('There is no room for this');
    await page.evaluate(() => new BroadcastChannel('disk').postMessage('full'));
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('lost');
    await page.keyboard.press('Enter');
    await page.getByText('The browser has no more room for this site: the last changes could not be saved.').first().waitFor();
    await page.locator('#foot-saved[data-state="failed"]').waitFor({ state: 'attached' });
    await shot('quota');
    await page.reload();
    await row('safe').waitFor();
    assert.deepEqual(await names(), ['safe']);
    assert.equal(await check(), 'The volume is intact.');
  });

  test('a full volume says so, keeps nothing of what did not fit, and goes on', async () => {
    await create('Small');
    const large = join(space.folder, 'large.bin');
    writeFileSync(large, randomBytes(45_000_000));
    await page.locator('#upload-input').setInputFiles(large);
    await page.locator('.job.failed').getByText('The volume is full.').waitFor();
    await shot('volume-full');
    await saved();
    assert.deepEqual(await names(), []);
    await page.locator('.job').getByRole('button', { name: 'Close' }).click();
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('after');
    await page.keyboard.press('Enter');
    await row('after').waitFor();
    await saved();
    assertClean(await exportImage());
  });

  test('a volume that is taken away under the page is told', async () => {
    await create('Away');
    await page.evaluate(async () => {
      const [{ name }] = (await indexedDB.databases()).filter((each) => each.name.startsWith('farrier-volume-'));
      await new Promise((resolve) => { indexedDB.deleteDatabase(name).onsuccess = resolve; });
    });
    await page.locator('#new-folder').click();
    await page.locator('#ask-input').fill('lost');
    await page.keyboard.press('Enter');
    await page.getByText('This volume cannot be reached any more').first().waitFor();
  });

  test('an image that is none is not imported, a volume can be deleted', async () => {
    await create('Gone');
    await page.locator('#close-volume').click();
    const text = join(space.folder, 'text.img');
    writeFileSync(text, Buffer.alloc(16 << 20, 'x'));
    await page.locator('#import-input').setInputFiles(text);
    await page.locator('.job.failed').getByText('is not a HAMMER2 image').waitFor();
    assert.equal(await page.locator('#local-list li').count(), 1);
    await item('Gone').getByRole('button', { name: 'Delete… Gone' }).click();
    await shot('delete');
    await page.getByRole('button', { name: 'Delete the volume' }).click();
    await page.locator('#local-empty').waitFor();
    assert.deepEqual(await page.evaluate(async () => (await indexedDB.databases()).length), 0);
  });

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
    await shot(name);
  }

  for (const colorScheme of ['light', 'dark']) {
    for (const [size, width, height] of [['desktop', 1280, 800], ['zoom200', 640, 400], ['phone', 320, 640]]) {
      test(`no violations, nothing too wide: ${colorScheme}, ${size}`, async () => {
        const look = (name) => audit(`${size}-${colorScheme}-${name}`);
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height });
        await page.locator('#local-new').click();
        await look('new');
        await page.keyboard.press('Escape');
        await create('Photos and notes');
        await look('empty');
        await page.locator('#new-text').click();
        await look('ask');
        await page.keyboard.press('Enter');
        await page.locator('#editor-text').fill('one\ntwo\n');
        await look('editor');
        await page.locator('#editor-save').click();
        await row('New text.txt').waitFor();
        await saved();
        await look('list');
        await page.locator('#show-snapshots').click();
        await page.locator('#snapshot-take').click();
        await page.locator('#snapshot-list li').waitFor();
        await look('snapshots');
        await page.locator('#snapshot-list').getByRole('button', { name: /^Open/ }).click();
        await page.locator('#snapshot-bar').waitFor();
        await quiet();
        await look('snapshot');
        await page.locator('#leave-snapshot').click();
        await page.locator('#edit-bar').waitFor();
        await page.locator('#show-facts').click();
        await page.locator('#export-image').waitFor();
        await look('facts');
        await page.keyboard.press('Escape');
        await page.locator('#close-volume').click();
        await item('Photos and notes').waitFor();
        await look('start');
        await page.getByRole('button', { name: 'Delete… Photos and notes' }).click();
        await look('delete');
      });
    }
  }
});
