// What the browser tests share: a static server, a browser with a profile of its own, the images.

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

/** This folder: pages of the tests may import from it. */
export const HERE = dirname(fileURLToPath(import.meta.url));
const repository = normalize(join(HERE, '../..'));

export const PAGE = join(repository, 'host-web/page');
export const DIST = join(repository, 'host-web/dist');
export const FAKE = join(HERE, 'fake');

/** Why the tests that need the built page cannot run, or false. */
export const notBuilt = existsSync(join(DIST, 'farrier_web_bg.wasm'))
  ? false
  : 'host-web/dist is not there: run `cargo xtask web` first';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.wasm': 'application/wasm',
};

/** Serves the first of the folders that has the file; port 0, so that runs never meet. */
export async function serve(...folders) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    const name = path.endsWith('/') ? `${path}index.html` : path;
    for (const folder of folders) {
      try {
        const bytes = await readFile(join(folder, name));
        response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'cache-control': 'no-store' });
        response.end(bytes);
        return;
      } catch (error) {
        if (error.code !== 'ENOENT' && error.code !== 'EISDIR') throw error;
      }
    }
    response.writeHead(404).end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}

/** A scratch folder that goes away with `close`. */
export function scratch() {
  const folder = mkdtempSync(join(tmpdir(), 'farrier-web-'));
  return { folder, close: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }) };
}

/**
 * A browser with a fresh profile on the page. `problems` collects what the console and the page
 * complained of; `close` fails the test if there is any.
 */
export async function openPage(server, options = {}) {
  const profile = scratch();
  const context = await chromium.launchPersistentContext(profile.folder, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
    acceptDownloads: true,
    locale: 'en-GB',
    timezoneId: 'UTC',
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text());
  });
  // A file dialog of the system cannot be driven: downloads take the browser's own way.
  await page.addInitScript(() => delete globalThis.showSaveFilePicker);
  await page.goto(server.url);
  return {
    page,
    context,
    problems,
    close: async () => {
      await context.close();
      profile.close();
      if (problems.length > 0) throw new Error(`the page complained:\n${problems.join('\n')}`);
    },
  };
}

/** Opens files as a person does, and waits for the list or the refusal. */
export async function openFiles(page, files) {
  await page.evaluate(() => {
    document.title = 'waiting';
  });
  await page.locator('#files').setInputFiles(files);
  await page.waitForFunction(
    () => document.title !== 'waiting' || !document.querySelector('#start-error').hidden || document.querySelector('#message').open,
  );
}

// --- images ----------------------------------------------------------------------------------------

const imageFolders = [
  process.env.FARRIER_IMAGES,
  join(repository, 'tests/images'),
  join(repository, '../shared/images'),
].filter((folder) => folder && existsSync(folder));

/** All golden images that can be found: name, manifest, packed files. */
export function goldenImages() {
  const found = new Map();
  for (const folder of imageFolders) {
    for (const file of readdirSync(folder)) {
      const match = /^(.*)\.json(\.zst)?$/.exec(file);
      if (!match || found.has(match[1])) continue;
      const manifest = () => {
        const bytes = match[2] ? execFileSync('zstd', ['-dcq', join(folder, file)], { maxBuffer: 1 << 30 }) : readFileSync(join(folder, file));
        return JSON.parse(bytes);
      };
      const packed = readdirSync(folder)
        .filter((each) => each === `${match[1]}.img.zst` || (each.startsWith(`${match[1]}.vol`) && each.endsWith('.img.zst')))
        .sort()
        .map((each) => join(folder, each));
      if (packed.length > 0) found.set(match[1], { name: match[1], manifest, packed });
    }
  }
  return found;
}

/** The damaged images: each a base, and what was written over it. */
export const damagedImages = () => JSON.parse(readFileSync(join(repository, 'tests/images/damaged.json')));

/** Makes a damaged image of its unpacked base. */
export function makeDamaged({ name, truncate, patches }, base, folder) {
  const path = join(folder, `${name}.img`);
  const copied = spawnSync('cp', ['--sparse=always', base, path]);
  if (copied.status !== 0) throw new Error(`cp: ${copied.stderr}`);
  const file = openSync(path, 'r+');
  if (truncate !== undefined) ftruncateSync(file, truncate);
  for (const [offset, hex] of patches) writeSync(file, Buffer.from(hex, 'hex'), 0, hex.length / 2, offset);
  closeSync(file);
  return path;
}

/** Unpacks an image into `folder`; holes stay holes, some images are gigabytes of them. */
export function unpack(image, folder) {
  return image.packed.map((packed) => {
    const target = join(folder, basename(packed, '.zst'));
    const done = spawnSync('zstd', ['-dqf', '--sparse', packed, '-o', target]);
    if (done.status !== 0) throw new Error(`zstd: ${done.stderr}`);
    return target;
  });
}
