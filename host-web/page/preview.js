// What is known about one entry, and a look into it.

import { factList, icon, iconOf, make } from './dom.js';
import { explain } from './errors.js';
import * as format from './format.js';
import { display } from './names.js';

/** How much of a text is shown. */
const TEXT_BYTES = 256 * 1024;
/** Up to here a picture is read as a whole; larger ones are for download. */
const PICTURE_BYTES = 32 * 1024 * 1024;
const HEX_BYTES = 512;

const ascii = (text) => Array.from(text, (char) => char.charCodeAt(0));
const startsWith = (bytes, at, expected) => expected.every((byte, index) => bytes[at + index] === byte);

/** The type of a picture by its first bytes: a name may say anything. */
function pictureType(bytes, name) {
  if (startsWith(bytes, 0, [0x89, ...ascii('PNG')])) return 'image/png';
  if (startsWith(bytes, 0, [0xff, 0xd8, 0xff])) return 'image/jpeg';
  if (startsWith(bytes, 0, ascii('GIF8'))) return 'image/gif';
  if (startsWith(bytes, 0, ascii('RIFF')) && startsWith(bytes, 8, ascii('WEBP'))) return 'image/webp';
  if (startsWith(bytes, 4, ascii('ftypavif'))) return 'image/avif';
  if (startsWith(bytes, 0, ascii('BM')) && format.extensionOf(name) === 'bmp') return 'image/bmp';
  // Inside an <img> an SVG runs no scripts and loads nothing.
  if (format.extensionOf(name) === 'svg') return 'image/svg+xml';
  return null;
}

/** The text that these bytes are, or null. */
function asText(bytes, whole) {
  if (bytes.includes(0)) return null;
  try {
    // With `stream` a character that the cut went through is left out instead of being an error.
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: !whole });
  } catch {
    return null;
  }
}

function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const row = Array.from(bytes.subarray(at, at + 8));
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(23)}  ${text}`);
  }
  return lines.join('\n');
}

export class Preview {
  #root;
  #generation = 0;
  #url = null;
  #handlers;

  /** @param {object} handlers  onSave(), onClose(), onFollow(path), client(), pfs(); canEdit(), onEdit(path, text) */
  constructor(root, handlers) {
    this.#root = root;
    this.#handlers = handlers;
  }

  clear() {
    this.#generation += 1;
    this.#release();
    this.#root.replaceChildren();
  }

  focus() {
    this.#root.querySelector('h2')?.focus();
  }

  #release() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }

  /** Shows an entry; whatever was under way for another one is dropped. */
  async show(path, entry) {
    const generation = (this.#generation += 1);
    this.#release();
    const heading = make('h2', { textContent: display(entry.name || '/'), tabIndex: -1 });
    const close = make('button', { type: 'button', className: 'plain preview-close', title: 'Close', onclick: this.#handlers.onClose }, icon('close'));
    close.append(make('span', { className: 'hidden-text', textContent: 'Close' }));
    const content = make('div', { className: 'preview-content' });
    const save = make('button', { type: 'button', onclick: this.#handlers.onSave }, icon('save'), make('span', { textContent: entry.type === 'dir' ? 'Download as ZIP' : 'Download' }));
    const actions = make('div', { className: 'preview-actions' });
    if (!entry.error && (entry.type === 'file' || entry.type === 'dir')) actions.append(save);
    this.#root.replaceChildren(
      make('div', { className: 'preview-head' }, iconOf(entry), heading, close),
      content,
      actions,
      this.#facts(entry),
    );
    try {
      if (entry.error) throw entry.error;
      const nodes = await this.#content(path, entry, actions, generation);
      if (generation === this.#generation) content.replaceChildren(...nodes);
    } catch (error) {
      if (generation !== this.#generation) return;
      const { title, advice } = explain(error);
      content.replaceChildren(make('div', { className: 'problem' }, make('strong', { textContent: title }), advice));
    }
  }

  #facts(entry) {
    if (entry.error) return factList([['Inode', String(entry.ino ?? '')]]);
    return factList([
      ['Type', format.kind(entry)],
      ['Size', entry.type === 'file' ? `${format.bytes(entry.size)} (${format.exactBytes(entry.size)})` : null],
      ['Modified', format.fullDate(entry.mtimeMs)],
      ['Changed', format.fullDate(entry.ctimeMs)],
      ['Mode', `${format.mode(entry)} (${(entry.mode & 0o7777).toString(8).padStart(4, '0')})`],
      ['Owner', `${entry.uid}:${entry.gid}`],
      ['Links', String(entry.nlink)],
      ['Inode', String(entry.ino)],
      ['Device', entry.rdev ? `${entry.rdev[0]}, ${entry.rdev[1]}` : null],
      ['Compression', entry.compression],
      ['Check code', entry.check],
    ]);
  }

  async #content(path, entry, actions, generation) {
    const client = this.#handlers.client();
    const pfs = this.#handlers.pfs();
    if (entry.type === 'symlink') {
      const target = await client.readlink(pfs, path);
      const follow = make('button', { type: 'button', textContent: 'Go to target', onclick: () => this.#handlers.onFollow(path) });
      actions.append(follow);
      return [make('p', {}, 'Points to ', make('strong', { textContent: display(target) }))];
    }
    if (entry.type !== 'file') return [];
    if (entry.size === 0) {
      this.#offerEdit(path, '', actions);
      return [make('p', { className: 'quiet', textContent: 'Empty file' })];
    }

    const first = await client.read(pfs, path, 0, Math.min(entry.size, TEXT_BYTES));
    const type = pictureType(first, entry.name);
    if (type && entry.size <= PICTURE_BYTES) {
      const parts = [];
      for await (const bytes of client.content(pfs, path, entry.size)) {
        if (generation !== this.#generation) return [];
        parts.push(new Blob([bytes]));
      }
      return this.#picture(new Blob(parts, { type }), entry, generation);
    }
    const whole = first.length >= entry.size;
    const text = asText(first, whole);
    if (text !== null) {
      const pre = make('pre', { textContent: text, tabIndex: 0 });
      pre.setAttribute('role', 'region');
      pre.setAttribute('aria-label', 'Content');
      if (whole) this.#offerEdit(path, text, actions);
      return whole ? [pre] : [pre, make('p', { className: 'quiet', textContent: `The first ${format.bytes(first.length)} of ${format.bytes(entry.size)}` })];
    }
    const pre = make('pre', { textContent: hexDump(first.subarray(0, HEX_BYTES)), tabIndex: 0 });
    pre.setAttribute('role', 'region');
    pre.setAttribute('aria-label', 'First bytes');
    return [pre, make('p', { className: 'quiet', textContent: `Not text: the first ${format.bytes(Math.min(HEX_BYTES, first.length))}` })];
  }

  #offerEdit(path, text, actions) {
    if (!this.#handlers.canEdit()) return;
    actions.append(make('button', { type: 'button', onclick: () => this.#handlers.onEdit(path, text) }, icon('rename'), make('span', { textContent: 'Edit' })));
  }

  async #picture(blob, entry, generation) {
    const url = URL.createObjectURL(blob);
    const img = make('img', { src: url, alt: `Picture ${display(entry.name)}` });
    const shown = await img.decode().then(() => true, () => false);
    if (!shown || generation !== this.#generation) {
      URL.revokeObjectURL(url);
      return [make('p', { className: 'quiet', textContent: 'This picture cannot be shown here.' })];
    }
    this.#url = url;
    return [
      make('div', { className: 'picture' }, img),
      make('p', { className: 'quiet', textContent: `${img.naturalWidth} \u00d7 ${img.naturalHeight} pixels` }),
    ];
  }
}
