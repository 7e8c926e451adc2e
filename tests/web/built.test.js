// The built page over real images, as somebody uses it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

import { damagedImages, DIST, goldenImages, makeDamaged, notBuilt, openFiles, openPage, scratch, serve, unpack } from './harness.js';

describe('the built page', { skip: notBuilt }, () => {
  const images = goldenImages();
  let server;
  let space;
  let browser;
  let page;

  before(async () => {
    server = await serve(DIST);
    space = scratch();
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

  const files = (name) => unpack(images.get(name), space.folder);
  const row = (name) => page.locator('.list-body .row').filter({ has: page.getByText(name, { exact: true }) });
  const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

  async function shot(name) {
    if (!process.env.FARRIER_SCREENSHOTS) return;
    mkdirSync(process.env.FARRIER_SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: join(process.env.FARRIER_SCREENSHOTS, `${name}.png`) });
  }

  async function download(name) {
    const [got] = await Promise.all([page.waitForEvent('download'), page.locator('#save').click()]);
    const path = join(space.folder, name);
    await got.saveAs(path);
    return path;
  }

  async function check() {
    await page.locator('#show-check').click();
    await page.locator('#check-start').click();
    await page.locator('#check:not([aria-busy="true"]) #check-start:not([hidden])').waitFor();
    return { text: await page.locator('#check-text').innerText(), findings: await page.locator('#check-findings li').allInnerTexts() };
  }

  test('nothing leaves the page, and nothing else is loaded than the page', async () => {
    const asked = [];
    const listen = (request) => asked.push(`${request.method()} ${request.url()}`);
    browser.context.on('request', listen);
    await page.reload();
    await openFiles(page, files('links'));
    await download('unseen.zip');
    browser.context.off('request', listen);
    const elsewhere = asked.filter((each) => !each.startsWith(`GET ${server.url}`) && !each.startsWith(`GET blob:${server.url}`) && !each.startsWith('GET data:'));
    assert.deepEqual(elsewhere, []);
    assert.ok(asked.some((each) => each.endsWith('farrier_web_bg.wasm')), asked.join('\n'));
  });

  test('a downloaded file has the content that was packed', async () => {
    const [image] = files('small-files');
    const { entries } = images.get('small-files').manifest().pfs.DATA;
    const largest = entries.filter((entry) => entry.type === 'file' && entry.path.split('/').length === 2).sort((a, b) => b.size - a.size)[0]
      ?? entries.find((entry) => entry.type === 'file');
    await page.goto(`${server.url}#/DATA${largest.path}`);
    await openFiles(page, image);
    await page.locator('.row[aria-selected="true"]').waitFor();
    await shot('built-file');
    assert.equal(sha256(readFileSync(await download('file'))), largest.sha256);
  });

  test('a whole file system comes out as a ZIP, names and contents equal', async () => {
    const [image] = files('links');
    const { entries } = images.get('links').manifest().pfs.DATA;
    await openFiles(page, image);
    await shot('built-list');
    const zip = await download('all.zip');
    const found = JSON.parse(execFileSync('python3', ['-c', `
import hashlib, json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
print(json.dumps({i.filename: [oct(i.external_attr >> 16), hashlib.sha256(z.read(i)).hexdigest()] for i in z.infolist()}))`, zip], { maxBuffer: 1 << 28 }));
    const types = { file: 0o100000, dir: 0o040000, symlink: 0o120000 };
    const wanted = entries.filter((entry) => entry.type in types && !entry.path_hex);
    for (const entry of wanted) {
      const path = `DATA${entry.path === '/' ? '' : entry.path}${entry.type === 'dir' ? '/' : ''}`;
      const [mode, hash] = found[path] ?? assert.fail(`${path} is missing`);
      assert.equal(Number(mode), types[entry.type] | Number.parseInt(entry.mode, 8), path);
      if (entry.type === 'file') assert.equal(hash, entry.sha256, path);
      if (entry.type === 'symlink') assert.equal(hash, sha256(entry.target_hex ? Buffer.from(entry.target_hex, 'hex') : entry.target), path);
    }
  });

  test('several volumes are one file system, and a missing one is named', async () => {
    const volumes = files('empty-multivol');
    await openFiles(page, volumes[0]);
    const text = await page.getByRole('alert').innerText();
    assert.match(text, /This file system spans 3 volumes, but 1 was given\./);
    assert.match(text, /volume 1 is the first that is missing/);
    await openFiles(page, volumes);
    await page.getByText('This folder is empty.').waitFor();
    await page.locator('#show-facts').click();
    await page.getByRole('dialog', { name: 'Volume' }).getByText('empty-multivol.vol2.img').waitFor();
    await shot('built-facts');
  });

  test('a volume that only has LOCAL shows that', async () => {
    await openFiles(page, files('empty-nopfs'));
    await page.getByText('This folder is empty.').waitFor();
    assert.match(page.url(), /#\/LOCAL$/);
  });

  test('a volume whose file systems cannot be read is open for a check', async () => {
    const damaged = damagedImages().find(({ name }) => name === 'd-inode-superroot');
    const [base] = files(damaged.base);
    await openFiles(page, makeDamaged(damaged, base, space.folder));
    await page.getByText('No file system in this volume can be read').waitFor();
    const { text } = await check();
    assert.match(text, /^The volume is damaged/);
  });

  test('snapshots are listed beside their origin', async () => {
    await openFiles(page, files('pfs-snapshots'));
    const shown = await page.locator('#pfs option').allTextContents();
    assert.ok(shown.includes('BETA.snap1 (snapshot)') && shown.includes('BETA'), shown.join());
    await page.locator('#pfs').selectOption('BETA.snap2');
    await page.waitForFunction(() => location.hash === '#/BETA.snap2');
  });

  test('a file that changed after it was chosen is told from damage', async () => {
    const [image] = files('links');
    await openFiles(page, image);
    // Any change makes the browser refuse to read on.
    execFileSync('sh', ['-c', 'printf x >> "$1"', 'sh', image]);
    await page.locator('#show-check').click();
    await page.locator('#check-start').click();
    await page.locator('#check-text').getByText('can no longer be read: it was changed, moved or removed').waitFor();
  });

  test('an intact volume checks clean', async () => {
    await openFiles(page, files('d-base1'));
    const { text, findings } = await check();
    assert.equal(text, 'The volume is intact.', findings.join('\n'));
  });

  test('damage is found, with the file that it is in', async () => {
    const damaged = damagedImages().find(({ name }) => name === 'd-data-block');
    const [base] = files(damaged.base);
    await openFiles(page, makeDamaged(damaged, base, space.folder));
    const { text, findings } = await check();
    await shot('built-check');
    assert.match(text, /^The volume is damaged: 1 damaged place\./);
    assert.ok(findings.some((each) => /^Damage.*check code/s.test(each) && each.includes('DATA: /blocks')), findings.join('\n'));
  });

  test('a damaged file shows where, and the rest of its folder still downloads', async () => {
    const damaged = damagedImages().find(({ name }) => name === 'd-data-block');
    const [base] = files(damaged.base);
    await openFiles(page, makeDamaged(damaged, base, space.folder));
    const zip = await download('damaged.zip');
    const report = execFileSync('python3', ['-c', 'import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]).decode())', zip, 'FARRIER-NOT-COMPLETE.txt']).toString();
    assert.match(report, /^\/blocks: data block .* at 0x2080000: check code is/m);
    await row('blocks').click();
    await page.locator('#preview').getByText('The image is damaged here: data block').waitFor();
    await shot('built-damaged');
  });
});
