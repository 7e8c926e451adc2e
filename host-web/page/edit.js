// What changes the folder that is shown: new folders and texts, uploads, renaming, deleting.

import { make } from './dom.js';
import { explain, isCancel } from './errors.js';
import * as format from './format.js';
import { display, join, parent } from './names.js';

const $ = (id) => document.getElementById(id);

/** Failures of single files that an upload tells one by one; all are counted. */
const LISTED = 3;

export class Editing {
  #handlers;
  #edited = null;

  /**
   * @param {object} handlers  client(), place(): `{ label, path }`; ask: the dialog; jobs; selected(): entries;
   *   entries(): all of the folder; refresh(path, { name }): shows a folder anew, with that name selected
   */
  constructor(handlers) {
    this.#handlers = handlers;
    $('new-folder').addEventListener('click', () => this.newFolder());
    $('new-text').addEventListener('click', () => this.newText());
    $('rename').addEventListener('click', () => this.rename());
    $('delete').addEventListener('click', () => this.remove());
    for (const [button, input] of [['upload', 'upload-input'], ['upload-folder', 'upload-folder-input']]) {
      $(button).addEventListener('click', () => $(input).click());
      $(input).addEventListener('change', () => {
        const items = Array.from($(input).files, (file) => ({ path: file.webkitRelativePath || file.name, file }));
        $(input).value = '';
        this.upload(items);
      });
    }
    $('editor-cancel').addEventListener('click', () => $('editor').close());
    $('editor-save').addEventListener('click', () => this.#saveText());
  }

  /** Which buttons make sense for a selection. */
  showSelection(selected) {
    $('rename').disabled = selected.length !== 1;
    $('delete').disabled = selected.length === 0;
  }

  newFolder() {
    return this.#makeNew('New folder', 'New folder', (label, path) => this.#handlers.client().change(label, 'mkdir', path));
  }

  async newText() {
    const made = await this.#makeNew('New text file', 'New text.txt', (label, path) => this.#handlers.client().change(label, 'create', path));
    if (made) this.edit(made, '');
  }

  async #makeNew(title, suggested, act) {
    const { label, path } = this.#handlers.place();
    const dot = suggested.lastIndexOf('.');
    const input = { label: 'Name', value: this.#free(suggested), select: dot > 0 ? dot : undefined };
    const name = await this.#handlers.ask.open({ title, input, choices: [{ label: 'Create', isDefault: true }] }, async (typed) => {
      await act(label, join(path, checked(typed)));
      return typed;
    });
    if (name === null) return null;
    await this.#handlers.refresh(path, { name });
    return join(path, name);
  }

  /** A name that is not taken yet, made of this one. */
  #free(suggested) {
    const taken = new Set(this.#handlers.entries().map((each) => each.name));
    if (!taken.has(suggested)) return suggested;
    const dot = suggested.lastIndexOf('.');
    const [stem, extension] = dot > 0 ? [suggested.slice(0, dot), suggested.slice(dot)] : [suggested, ''];
    for (let number = 2; ; number += 1) {
      if (!taken.has(`${stem} ${number}${extension}`)) return `${stem} ${number}${extension}`;
    }
  }

  async rename() {
    const [entry] = this.#handlers.selected();
    if (!entry || this.#handlers.selected().length !== 1) return;
    const { label, path } = this.#handlers.place();
    const dot = entry.type === 'dir' ? -1 : entry.name.lastIndexOf('.');
    const input = { label: 'New name', value: entry.name, select: dot > 0 ? dot : undefined };
    const title = `Rename \u201c${display(entry.name)}\u201d`;
    const name = await this.#handlers.ask.open({ title, input, choices: [{ label: 'Rename', isDefault: true }] }, async (typed) => {
      if (typed !== entry.name) await this.#handlers.client().change(label, 'rename', join(path, entry.name), join(path, checked(typed)), false);
      return typed;
    });
    if (name !== null && name !== entry.name) await this.#handlers.refresh(path, { name });
  }

  async remove() {
    const selected = this.#handlers.selected();
    if (selected.length === 0) return;
    const { label, path } = this.#handlers.place();
    const what = selected.length === 1 ? `\u201c${display(selected[0].name)}\u201d` : format.count(selected.length, 'item');
    const folders = selected.some((each) => each.type === 'dir');
    const yes = await this.#handlers.ask.open({
      title: `Delete ${what}?`,
      text: `${folders ? 'Folders go with everything in them. ' : ''}This cannot be undone, but for what a snapshot has.`,
      choices: [{ label: 'Delete', value: true, isDefault: true, danger: true }],
    });
    if (!yes) return;
    const next = this.#neighbour(selected);
    await this.#handlers.jobs.run(`Deleting ${what}`, async (job) => {
      try {
        const count = await this.#handlers.client().remove(label, selected.map((each) => join(path, each.name)), {
          signal: job.signal,
          onProgress: ({ done }) => job.progress(0, 0, `${format.count(done, 'item')} deleted`),
        });
        return `${format.count(count, 'item')} deleted`;
      } finally {
        await this.#handlers.refresh(path, { name: next, focus: true });
      }
    });
  }

  /** The entry to stand on when these are gone. */
  #neighbour(selected) {
    const gone = new Set(selected.map((each) => each.name));
    const entries = this.#handlers.entries();
    const first = entries.findIndex((each) => gone.has(each.name));
    const after = entries.slice(first).find((each) => !gone.has(each.name));
    return (after ?? entries.slice(0, first).findLast((each) => !gone.has(each.name)))?.name ?? null;
  }

  // --- uploads -------------------------------------------------------------------------------------

  /** @param {{path: string, file: File | null}[]} items  relative paths; folders have no file */
  async upload(items) {
    if (items.length === 0) return;
    const place = { ...this.#handlers.place() };
    const files = items.filter((each) => each.file);
    const total = files.reduce((sum, { file }) => sum + file.size, 0);
    const title = items.length === 1 ? `Upload of \u201c${display(items[0].path)}\u201d` : `Upload of ${format.count(items.length, 'item')}`;
    await this.#handlers.jobs.run(title, async (job) => {
      await checkRoom(total);
      const state = { job, place, total, done: 0, count: 0, skipped: 0, failed: [], policy: null };
      try {
        await this.#makeFolders(state, items);
        for (const item of files) await this.#uploadOne(state, item);
      } finally {
        await this.#handlers.client().sync().catch(() => {});
        await this.#handlers.refresh(place.path, { name: items[0].path.split('/')[0] });
      }
      return uploaded(state);
    });
  }

  async #makeFolders({ job, place }, items) {
    const folders = new Set();
    for (const { path, file } of items) {
      let at = file ? path.lastIndexOf('/') : path.length;
      for (; at > 0; at = path.lastIndexOf('/', at - 1)) folders.add(path.slice(0, at));
    }
    // Shorter ones first: what lies above others.
    for (const folder of [...folders].sort((a, b) => a.length - b.length)) {
      job.signal.throwIfAborted();
      try {
        await this.#handlers.client().changeOnly(place.label, 'mkdir', join(place.path, folder));
      } catch (error) {
        if (error.code !== 'EEXIST') throw error;
      }
    }
  }

  async #uploadOne(state, { path, file }) {
    const { job, place } = state;
    job.signal.throwIfAborted();
    const target = join(place.path, path);
    const client = this.#handlers.client();
    try {
      const replace = await this.#clashes(state, target, path);
      if (replace === null) {
        state.skipped += 1;
      } else {
        const base = state.done;
        await client.upload(place.label, parent(target), target.slice(target.lastIndexOf('/') + 1), file, replace, {
          signal: job.signal,
          onProgress: ({ done }) => job.progress(base + done, state.total),
        });
        state.count += 1;
      }
    } catch (error) {
      // What is about this file only is told at the end; what will be so for all others ends it now.
      if (isCancel(error) || !SINGLE.has(error.reason ?? error.code)) throw error;
      state.failed.push(`${display(path)}: ${explain(error).title}`);
    }
    state.done += file.size;
    job.progress(state.done, state.total, state.total === 0 ? format.count(state.count, 'file') : '');
  }

  /** Whether the name has to be replaced; null if the file is to be left out. Asked once for all. */
  async #clashes(state, target, path) {
    const there = await this.#handlers.client().lstat(state.place.label, target).catch(() => null);
    if (!there) return false;
    if (there.type === 'dir') throw Object.assign(new Error('is a directory'), { code: 'EISDIR' });
    state.policy ??= await this.#handlers.ask.open({
      title: `\u201c${display(path)}\u201d is there already`,
      text: 'What to do about this and all other names of this upload that are taken?',
      choices: [{ label: 'Leave them', value: 'skip' }, { label: 'Replace them', value: 'replace', isDefault: true }],
    });
    if (state.policy === null) throw new DOMException('Cancelled', 'AbortError');
    return state.policy === 'replace' ? true : null;
  }

  // --- texts ---------------------------------------------------------------------------------------

  /** Opens a text for editing. */
  edit(path, text) {
    this.#edited = { ...this.#handlers.place(), file: path };
    $('editor-title').textContent = display(path.slice(path.lastIndexOf('/') + 1));
    $('editor-problem').hidden = true;
    $('editor-text').value = text;
    $('editor').showModal();
    $('editor-text').focus();
  }

  async #saveText() {
    const { label, path, file } = this.#edited;
    const bytes = new TextEncoder().encode($('editor-text').value);
    const client = this.#handlers.client();
    $('editor-save').disabled = true;
    try {
      // Both are in one commit; the file stays the same one.
      await client.changeOnly(label, 'write', file, 0, bytes);
      await client.change(label, 'setAttributes', file, { size: bytes.length });
      $('editor').close();
      await this.#handlers.refresh(path, { name: file.slice(file.lastIndexOf('/') + 1), focus: true });
    } catch (error) {
      const { title, advice } = explain(error);
      $('editor-problem').replaceChildren(make('strong', { textContent: title }), advice);
      $('editor-problem').hidden = false;
    } finally {
      $('editor-save').disabled = false;
    }
  }
}

/** Errors that say something about one file of many. */
const SINGLE = new Set(['EISDIR', 'ENAMETOOLONG', 'EINVAL', 'ENOTDIR', 'EFBIG', 'source-changed']);

function uploaded({ count, total, skipped, failed }) {
  const parts = [`${format.count(count, 'file')} uploaded, ${format.bytes(total)}`];
  if (skipped > 0) parts.push(`${format.count(skipped, 'name')} left as they were`);
  if (failed.length === 0) return parts.join('; ');
  const more = failed.length > LISTED ? ` And ${failed.length - LISTED} more.` : '';
  return { text: `${parts.join('; ')}; ${format.count(failed.length, 'file')} not. ${failed.slice(0, LISTED).join(' ')}${more}`, problem: true };
}

/** The typed name, if something can be called so. */
export function checked(name) {
  const wrong = name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0');
  if (wrong) throw Object.assign(new Error('a name'), { reason: 'bad-name' });
  return name;
}

/** Fails before anything is written if the browser has no room for so much. */
export async function checkRoom(need) {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.().catch(() => null)) ?? {};
  const have = Math.max(0, quota - usage);
  if (quota > 0 && need > have) throw Object.assign(new Error('no room'), { reason: 'no-quota', need, have });
}

/** What was dropped, folders with all that is in them. To be called before the first await. */
export async function dropped(transfer) {
  const items = [];
  const pending = [];
  for (const item of transfer.items) {
    const entry = item.webkitGetAsEntry?.();
    const file = entry ? null : item.getAsFile();
    if (entry) pending.unshift({ entry, path: entry.name });
    else if (file) items.push({ path: file.name, file });
  }
  while (pending.length > 0) {
    const { entry, path } = pending.pop();
    if (entry.isFile) {
      items.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
      continue;
    }
    items.push({ path, file: null });
    const reader = entry.createReader();
    // It gives a hundred at a time, and nothing at the end.
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (some.length === 0) break;
      for (const each of some) pending.push({ entry: each, path: `${path}/${each.name}` });
    }
  }
  return items;
}
