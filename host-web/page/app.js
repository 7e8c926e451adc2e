// The page: opens volumes, keeps list, tree, preview, path and URL on the same place, starts downloads.

import { Ask } from './ask.js';
import { CheckDialog } from './checking.js';
import { Client } from './client.js';
import { make } from './dom.js';
import { dropped, Editing } from './edit.js';
import { explain } from './errors.js';
import { showFacts } from './facts.js';
import * as format from './format.js';
import { Jobs } from './jobs.js';
import { FileList } from './list.js';
import { LocalVolumes } from './local.js';
import { ancestors, basename, display, fromHash, join, parent, toHash } from './names.js';
import { Preview } from './preview.js';
import { collect, openImageSink, openSink, pour, REPORT, wantsPlace, zipEntries } from './save.js';
import { Snapshots } from './snapshots.js';
import { FolderTree, folderNames } from './tree.js';
import { zip } from './zip.js';

const $ = (id) => document.getElementById(id);
/** Says something to those who do not see it; the last word wins. */
const announce = (text) => {
  $('status').textContent = text;
};

/** Folders whose entries are kept, so that going back and expanding the tree cost nothing. */
const KEEP_FOLDERS = 64;
const KEEP_ENTRIES = 100_000;

/** Where a tab remembers which local volume it had open. */
const KEPT = 'farrier-volume';

// --- state -----------------------------------------------------------------------------------------

/** The open volume: client, files, facts, pfs list, `local` if this browser keeps it; null before the first. */
let volume = null;
/** Whether its changes are saved: `saved`, `unsaved` or `failed`. */
let saving = 'saved';
/** Where the list is: label and path; `entry` of the folder itself. */
let place = null;
/** Counts navigations: what comes in for an earlier one is dropped. */
let visit = 0;
/** Where the list stood in folders that were left. */
const views = new Map();
/** Entries of folders, by label and path; in the order of use. */
const folders = new Map();

const key = (label, path) => `${label}\0${path}`;

// The worker starts loading while somebody still looks for the file.
let spare = new Client();

const narrow = matchMedia('(max-width: 62rem)');
const touch = matchMedia('(pointer: coarse)');

const jobs = new Jobs($('jobs'), announce);
const checkDialog = new CheckDialog($('check'), announce);

const list = new FileList($('list'), {
  onOpen: (entry) => openEntry(entry),
  onUp: () => goUp(),
  onChange: (active, selected) => showSelection(active, selected),
  onSort: ({ column, descending }) => announce(`Sorted by ${column}, ${descending ? 'descending' : 'ascending'}`),
  onRename: () => isWritable() && editing.rename(),
  onDelete: () => isWritable() && editing.remove(),
  // With a finger there is no double click.
  openOnClick: (event) => event.pointerType === 'touch' || touch.matches,
});

const tree = new FolderTree($('tree'), {
  load: async (path) => folderNames(await entriesOf(place.label, path), format.comparison({ column: 'name' })),
  onOpen: (path) => {
    $('browser').classList.remove('tree-open');
    $('show-tree').setAttribute('aria-expanded', 'false');
    if (path === place.path) list.focus();
    else go(place.label, path);
  },
});

const preview = new Preview($('preview'), {
  client: () => volume.client,
  pfs: () => place.label,
  onSave: () => save(),
  onClose: () => closePreview(),
  onFollow: (path) => follow(path),
  canEdit: () => isWritable(),
  onEdit: (path, text) => {
    closePreview();
    editing.edit(path, text);
  },
});

const ask = new Ask($('ask'));

const locals = new LocalVolumes({
  client: () => (spare ??= new Client()),
  ask,
  onOpen: (id, name) => openWith(display(name), (client) => client.localOpen(id)),
  onCreate: async (options) => {
    const client = new Client();
    try {
      await use(client, await client.localCreate(options), display(options.name));
    } catch (error) {
      client.close();
      throw error;
    }
    askToPersist();
  },
  onImport: (file) => importImage(file),
});

const editing = new Editing({
  client: () => volume.client,
  place: () => ({ label: place.label, path: place.path }),
  ask,
  jobs,
  selected: () => list.selected,
  entries: () => list.entries,
  refresh: (path, options) => refresh(path, options),
});

const snapshots = new Snapshots({
  client: () => volume.client,
  pfs: () => volume.pfs,
  ask,
  announce,
  onChange: () => reloadPfs(),
  onOpen: (label) => go(label, '/'),
});

/** Whether the folder that is shown can be changed. */
const isWritable = () => Boolean(volume?.local && place && !snapshotShown());
const snapshotShown = () => volume.pfs.find((each) => each.label === place.label)?.snapshot;

// --- opening ---------------------------------------------------------------------------------------

async function open(files, options = {}) {
  files = Array.from(files);
  if (files.length === 0) return;
  const what = files.length === 1 ? display(files[0].name) : format.count(files.length, 'file');
  await openWith(what, (client) => client.open(files, options), files);
}

/** Opens what `opening` asks a client for: `{ facts, pfs }`, and `local` for a local volume. */
async function openWith(what, opening, files = []) {
  const client = spare ?? new Client();
  spare = null;
  $('start-error').hidden = true;
  $('start-busy').textContent = `Opening ${what}\u2026`;
  $('start-busy').hidden = false;
  try {
    const opened = await opening(client);
    await use(client, opened, opened.local ? display(opened.local.name) : what, files);
  } catch (error) {
    client.close();
    showProblem(error, files);
  } finally {
    $('start-busy').hidden = true;
    // Ready for the next one: a worker serves one volume, and ends with it.
    spare ??= new Client();
  }
}

/** Shows an opened volume in place of the one before. */
async function use(client, { facts, pfs, local }, what, files = []) {
  jobs.cancelAll();
  const replaces = volume !== null;
  await leave();
  volume = { client, files, facts, pfs: pfs.entries, broken: pfs.broken, local };
  saving = 'saved';
  client.onSaving = (state, error) => showSaving(client, state, error);
  // A reload comes back to it.
  if (local) sessionStorage.setItem(KEPT, local.id);
  else sessionStorage.removeItem(KEPT);
  folders.clear();
  views.clear();
  await showVolume(what, replaces);
}

/** Lets go of the open volume, saving what was changed. */
async function leave() {
  if (!volume) return;
  const { client, local } = volume;
  // What could not be saved was told when it happened.
  if (local) await client.localClose().catch(() => {});
  client.close();
  volume = null;
}

/** Back to the start page. */
async function closeVolume() {
  if (jobs.running > 0) {
    const question = { title: 'Stop what is running?', text: 'An upload or a download has not ended.', choices: [{ label: 'Stop and close', value: true, isDefault: true, danger: true }] };
    if (!(await ask.open(question))) return;
    jobs.cancelAll();
  }
  visit += 1;
  closePreview();
  preview.clear();
  await leave();
  place = null;
  sessionStorage.removeItem(KEPT);
  history.replaceState(null, '', location.pathname + location.search);
  document.title = 'Farrier';
  $('browser').hidden = true;
  $('volume-tools').hidden = true;
  $('start').hidden = false;
  announce('Closed');
  await locals.refresh();
  $('local-new').focus();
}

async function importImage(file) {
  const what = display(file.name);
  await jobs.run(`Import of ${what}`, async (job) => {
    // Only what is not zero is kept; how much that is nobody knows before.
    const client = new Client();
    try {
      const opened = await client.localImport(file, file.name.replace(/\.[^.]*$/, '') || file.name, {
        signal: job.signal,
        onProgress: ({ done, total }) => job.progress(done, total),
      });
      await use(client, opened, display(opened.local.name));
    } catch (error) {
      client.close();
      await locals.refresh();
      throw error;
    }
    askToPersist();
    return `Imported, ${format.bytes(file.size)}`;
  });
}

/** Asks the browser to keep what this site stores even when room gets short; it need not agree. */
const askToPersist = () => navigator.storage?.persist?.().catch(() => false);

function showProblem(error, files) {
  const { title, advice, retry } = explain(error, files);
  if (volume) {
    $('message-title').textContent = title;
    $('message-text').textContent = advice;
    $('message').showModal();
    return;
  }
  const box = $('start-error');
  box.replaceChildren(make('strong', { textContent: title }), advice);
  if (retry) {
    box.append(make('p', {}, make('button', { type: 'button', textContent: retry.label, onclick: () => open(files, retry.options) })));
  }
  box.hidden = false;
}

async function showVolume(what, replaces) {
  $('start').hidden = true;
  $('browser').hidden = false;
  $('volume-tools').hidden = false;
  const { facts, pfs, broken } = volume;
  $('pfs').replaceChildren(...pfs.map((each) => make('option', { value: each.label, textContent: pfsTitle(each) })));
  $('pfs').disabled = pfs.length === 0;
  const isLocal = Boolean(volume.local);
  $('foot-volume').textContent = (isLocal ? [what, format.bytes(facts.size)] : [what, format.bytes(facts.size), 'read-only']).join(' \u00b7 ');
  $('foot-space').hidden = $('foot-saved').hidden = !isLocal;
  $('edit-bar').hidden = $('snapshot-bar').hidden = true;
  if (isLocal) {
    showSaving(volume.client, 'saved');
    showSpace();
  }
  announce(`Opened ${what}: ${format.count(pfs.length, 'file system')}`);
  place = null;
  const wanted = fromHash(location.hash);
  const label = pfs.some((each) => each.label === wanted?.label) ? wanted.label : preferred(pfs)?.label;
  if (label === undefined) {
    tree.reset('No file system');
    list.show([]);
    list.say(
      broken.length > 0
        ? `No file system in this volume can be read: ${broken[0].message}. Check lists every damaged place.`
        : 'This volume holds no file system yet: it was formatted without a label.',
    );
    list.busy = false;
    document.title = `${what} \u2013 Farrier`;
    $('crumbs').replaceChildren();
    $('foot-items').textContent = '';
    $('save').disabled = true;
    preview.clear();
    return;
  }
  $('save').disabled = false;
  if (broken.length > 0) {
    showProblem({ reason: 'pfs-damaged', message: broken[0].message, number: broken.length }, volume.files);
  }
  let path = label === wanted?.label ? wanted.path : '/';
  // The place in the URL may be one of the volume before: kept if this one has it, too.
  if (replaces && !(await volume.client.stat(label, path).then(() => true, () => false))) path = '/';
  // Not a step of its own in the history: there is nothing to go back to.
  history.replaceState(null, '', toHash(label, path));
  arrive({ label, path }, { focus: true });
}

const pfsTitle = (pfs) => display(pfs.label) + (pfs.snapshot ? ' (snapshot)' : '');

/** The file system that most people want to see first: no snapshot, and not the small LOCAL one. */
const preferred = (pfs) =>
  pfs.find((each) => !each.snapshot && each.label !== 'LOCAL') ?? pfs.find((each) => !each.snapshot) ?? pfs[0];

// --- places ----------------------------------------------------------------------------------------

/** Goes to a folder (or to the folder of a file) as a new step in the history. */
function go(label, path) {
  const hash = toHash(label, path);
  if (hash === location.hash) arrive({ label, path }, { focus: true });
  else location.hash = hash;
}

function goUp() {
  if (!place || place.path === '/') return;
  const { label, path } = place;
  const up = parent(path);
  // Coming from below, the folder that was left is the one to stand on.
  views.set(key(label, up), { ...views.get(key(label, up)), name: basename(path), scrollTop: undefined });
  go(label, up);
}

async function entriesOf(label, path) {
  const kept = folders.get(key(label, path));
  if (kept) return kept;
  const entries = Object.assign([], { broken: [] });
  for await (const piece of volume.client.list(label, path)) add(entries, piece);
  keep(label, path, entries);
  return entries;
}

function add(entries, piece) {
  entries.push(...piece.entries);
  entries.broken.push(...piece.broken);
}

function keep(label, path, entries) {
  folders.delete(key(label, path));
  folders.set(key(label, path), entries);
  let total = 0;
  for (const each of folders.values()) total += each.length;
  for (const [oldest, each] of folders) {
    if (folders.size <= 1 || (folders.size <= KEEP_FOLDERS && total <= KEEP_ENTRIES)) break;
    total -= each.length;
    folders.delete(oldest);
  }
}

/** Shows what the URL names. */
async function arrive({ label, path }, { focus = false, at = null } = {}) {
  const current = (visit += 1);
  const stale = () => current !== visit;
  if (place && !at) views.set(key(place.label, place.path), list.place);
  const newPfs = place?.label !== label;
  place = { label, path, entry: null };
  if (newPfs) {
    $('pfs').value = label;
    tree.reset(label);
  }
  $('edit-bar').hidden = !isWritable();
  $('snapshot-bar').hidden = !(volume.local && snapshotShown());
  showCrumbs();
  list.say();
  list.busy = true;
  closePreview();
  preview.clear();
  // At the root "Parent folder" goes out of use: the focus must not stay on it.
  const homeless = document.activeElement === document.body || (path === '/' && document.activeElement === $('up'));
  const wasInList = focus || homeless || $('list').contains(document.activeElement);

  const { client } = volume;
  let entries = folders.get(key(label, path)) ?? null;
  let failure = null;
  try {
    place.entry = await client.stat(label, path);
    if (stale()) return;
    if (place.entry.type !== 'dir') {
      // The URL of a file: its folder, with the file selected.
      const up = parent(path);
      views.set(key(label, up), { name: basename(path), selected: true });
      history.replaceState(null, '', toHash(label, up));
      place = null;
      arrive({ label, path: up }, { focus });
      return;
    }
    place.entry.name ||= path === '/' ? label : basename(path);
    const view = at ?? views.get(key(label, path)) ?? null;
    if (entries) {
      list.show(entries, view);
    } else {
      entries = Object.assign([], { broken: [] });
      // Sorted and drawn whenever there is half as much again: a folder of any size costs only a few sorts.
      let shown = 0;
      for await (const piece of client.list(label, path)) {
        if (stale()) return;
        add(entries, piece);
        if (shown === 0) list.show(entries, view);
        else if (entries.length > shown * 1.5) list.update(entries);
        else continue;
        shown = entries.length;
        $('foot-items').textContent = `${format.count(shown, 'item')}\u2026`;
      }
      if (entries.length > shown) list.update(entries);
      showSelection(list.active, list.selected);
      keep(label, path, entries);
    }
    if (view?.selected) list.select(view.name);
  } catch (error) {
    if (stale()) return;
    failure = error;
    if (!entries?.length) list.show([]);
  }
  list.busy = false;
  if (failure) {
    const { title, advice } = explain(failure);
    const part = entries?.length ? 'Only a part of this folder could be read. ' : '';
    list.say(`${part}${title} ${advice}`, { label: 'Try again', run: () => arrive({ label, path }, { focus: true }) });
    announce(`${part}${title}`);
  } else if (entries.broken.length > 0) {
    const text = `${format.count(entries.broken.length, 'place')} of this folder cannot be read, so names may be missing: ${entries.broken[0].message}.`;
    list.say(text, { label: 'Try again', run: () => {
      folders.delete(key(label, path));
      arrive({ label, path }, { focus: true });
    } });
    announce(text);
  } else if (entries.length === 0) {
    list.say(isWritable() ? 'This folder is empty. Drop files here, or upload them.' : 'This folder is empty.');
  }
  document.title = `${display(path === '/' ? label : basename(path))} \u2013 Farrier`;
  if (!failure && entries.broken.length === 0) announce(`${display(place.entry.name)}: ${format.count(entries.length, 'item')}`);
  if (wasInList) list.focus();
  tree.reveal(path);
}

/** Shows a folder anew after it was changed, if it is the one that is shown. */
async function refresh(path, { name = null, focus = false } = {}) {
  if (!volume || !place) return;
  const { label } = place;
  folders.delete(key(label, path));
  for (const each of [...folders.keys()]) if (each.startsWith(key(label, join(path, '')))) folders.delete(each);
  showSpace();
  await tree.refresh(path);
  if (place.path !== path) return;
  const at = name === null ? list.place : { name, selected: list.entries.length > 0 || name !== null };
  previewed = null;
  await arrive({ label, path }, { focus, at });
}

async function reloadPfs() {
  const { entries, broken } = await volume.client.pfsList();
  Object.assign(volume, { pfs: entries, broken });
  $('pfs').replaceChildren(...entries.map((each) => make('option', { value: each.label, textContent: pfsTitle(each) })));
  if (place) $('pfs').value = place.label;
  for (const each of [...folders.keys()]) if (!entries.some(({ label }) => each.startsWith(key(label, '')))) folders.delete(each);
  showSpace();
}

// --- what is saved ---------------------------------------------------------------------------------

const SAVING = { saved: 'All changes saved', unsaved: 'Saving\u2026', failed: 'Changes not saved' };

function showSaving(client, state, error) {
  if (client !== volume?.client) return;
  const wasFailed = saving === 'failed';
  saving = state;
  $('foot-saved').textContent = SAVING[state];
  $('foot-saved').dataset.state = state;
  if (state === 'saved') showSpace();
  if (state === 'failed' && !wasFailed) {
    jobs.cancelAll();
    showProblem(error, []);
  }
}

async function showSpace() {
  const { client, local } = volume ?? {};
  if (!local) return;
  const space = await client.space().catch(() => null);
  if (!space || client !== volume?.client) return;
  const [size, free] = [Number(space.size), Number(space.free)];
  $('foot-space').textContent = `${format.bytes(size - free)} used, ${format.bytes(free)} free`;
}

async function exportImage() {
  const { client, local } = volume;
  $('facts').close();
  const name = `${local.name}.img`;
  await jobs.run(display(name), async (job) => {
    const sink = await openImageSink(name);
    let [size, stored, done] = [0, 0, 0];
    try {
      const onSize = (whole, kept) => ([size, stored] = [whole, kept]);
      for await (const { offset, bytes } of client.image({ signal: job.signal, onSize })) {
        await sink.put(offset, bytes);
        job.progress((done += bytes.length), stored);
      }
      await sink.finish(size);
    } catch (error) {
      await sink.abort();
      throw error;
    }
    return `Saved, ${format.bytes(size)}`;
  });
}

async function freeUnused() {
  const { client } = volume;
  $('facts').close();
  await jobs.run('Freeing up space', async (job) => {
    job.progress(0, 0, 'Looking for what nothing refers to\u2026');
    const { bytes } = await client.changeVolume('freeUnused');
    showSpace();
    return Number(bytes) > 0 ? `${format.bytes(bytes)} freed` : 'There was nothing to free';
  });
}

async function tellFacts() {
  const { client, local, facts, pfs, files } = volume;
  if (!local) {
    showFacts($('facts'), volume);
    return;
  }
  try {
    const [{ free }, stored] = await Promise.all([client.space(), client.call('stored')]);
    showFacts($('facts'), { facts: { ...facts, free }, pfs, files, local: { ...local, stored } });
  } catch (error) {
    showProblem(error, []);
  }
}

function showCrumbs() {
  const { label, path } = place;
  const all = ancestors(path);
  $('crumbs').replaceChildren(
    ...all.map((each) => {
      const link = make('a', { href: toHash(label, each), textContent: display(each === '/' ? label : basename(each)) });
      if (each === path) link.setAttribute('aria-current', 'page');
      return make('li', {}, link);
    }),
  );
  const nav = $('crumbs').parentElement;
  nav.scrollLeft = nav.scrollWidth;
  $('up').disabled = path === '/';
}

async function follow(path) {
  try {
    const target = await volume.client.realpath(place.label, path);
    closePreview();
    go(place.label, target);
  } catch (error) {
    const { title } = explain(error);
    const text = error.code === 'ENOENT' ? 'This link points to something that is not in this file system.' : title;
    announce(text);
    $('message-title').textContent = text;
    $('message-text').textContent = '';
    $('message').showModal();
  }
}

// --- selection and preview -------------------------------------------------------------------------

function openEntry(entry) {
  const path = join(place.path, entry.name);
  if (entry.type === 'dir' && !entry.error) go(place.label, path);
  else if (entry.type === 'symlink' && !entry.error) follow(path);
  else openPreview(entry);
}

function showSelection(active, selected) {
  const total = list.entries.length;
  let text = format.count(total, 'item');
  if (selected.length > 0) {
    const size = selected.reduce((sum, entry) => sum + (entry.type === 'file' && !entry.error ? entry.size : 0), 0);
    text += `, ${selected.length} selected`;
    if (size > 0) text += ` (${format.bytes(size)})`;
  }
  $('foot-items').textContent = text;
  const saved = selected.length > 0 ? `Download ${selected.length === 1 ? 'the selected item' : `${selected.length} selected items`}` : 'Download this folder';
  $('save').title = saved;
  editing.showSelection(selected);
  if (narrow.matches) return;
  if (selected.length === 1) showPreview(selected[0]);
  else if (place?.entry && !place.entry.error) showPreview(null);
}

let previewed = null;

function showPreview(entry) {
  const path = entry ? join(place.path, entry.name) : place.path;
  const subject = entry ?? place.entry;
  if (previewed === subject) return;
  previewed = subject;
  preview.show(path, subject);
}

/** Enter on a file: into the preview, which is a dialog where there is no room for a pane. */
function openPreview(entry) {
  if (narrow.matches) {
    $('preview-dialog').append($('preview'));
    previewed = null;
    showPreview(entry);
    if (!$('preview-dialog').open) $('preview-dialog').showModal();
  } else {
    showPreview(entry);
    preview.focus();
  }
}

function closePreview() {
  previewed = null;
  if ($('preview-dialog').open) $('preview-dialog').close();
}

$('preview-dialog').addEventListener('close', () => {
  $('preview-pane').append($('preview'));
  preview.clear();
  previewed = null;
  list.focus();
});

narrow.addEventListener('change', () => {
  if (!narrow.matches && volume) {
    closePreview();
    showSelection(list.active, list.selected);
  }
});

// --- downloads -------------------------------------------------------------------------------------

/** Downloads what is selected, or the folder that is shown. */
function save() {
  if (!place?.entry) return;
  const { label, path } = place;
  let selected = list.selected;
  // The preview of an entry offers a download of just that one.
  if ($('preview-dialog').open && list.active) selected = [list.active];
  if (selected.length === 0) {
    saveZip(label, place.entry.name, [{ source: path, entry: place.entry }]);
  } else if (selected.length === 1 && selected[0].type === 'file') {
    saveFile(label, join(path, selected[0].name), selected[0]);
  } else {
    const name = selected.length === 1 ? selected[0].name : path === '/' ? label : basename(path);
    saveZip(label, name, selected.map((entry) => ({ source: join(path, entry.name), entry })));
  }
}

async function saveFile(label, path, entry) {
  const { client } = volume;
  await jobs.run(display(entry.name), async (job) => {
    const sink = await openSink(entry.name, entry.size);
    let done = 0;
    await pour(client.content(label, path, entry.size, job), sink, {
      signal: job.signal,
      onBytes: (count) => job.progress((done += count), entry.size),
    });
    return `Saved, ${format.bytes(done)}`;
  });
}

async function saveZip(label, name, roots) {
  const { client } = volume;
  await jobs.run(`${display(name)}.zip`, async (job) => {
    const { items, bytes, skipped } = await collect(client, label, roots, {
      signal: job.signal,
      onFound: (found, size) => job.progress(0, 0, `${format.count(found, 'item')}, ${format.bytes(size)}\u2026`),
    });
    if (wantsPlace(bytes)) {
      // The click that began this is too long ago for a file dialog.
      await job.ask('Save as\u2026', `${format.count(items.length, 'item')}, ${format.bytes(bytes)}`);
    }
    const sink = await openSink(`${name}.zip`, bytes, 'application/zip');
    let done = 0;
    await pour(zip(zipEntries(client, label, items, skipped, job)), sink, {
      signal: job.signal,
      onBytes: (count) => job.progress(Math.min((done += count), bytes), bytes),
    });
    if (skipped.length > 0) {
      return { text: `Saved, but ${format.count(skipped.length, 'item')} could not be packed whole: see ${REPORT} in it.`, problem: true };
    }
    return `Saved, ${format.count(items.length, 'item')}, ${format.bytes(bytes)}`;
  });
}

// --- events ----------------------------------------------------------------------------------------

for (const button of document.querySelectorAll('.pick')) button.addEventListener('click', () => $('files').click());
$('files').addEventListener('change', () => {
  const files = Array.from($('files').files);
  // Choosing the same file again must be an event, too.
  $('files').value = '';
  open(files);
});

$('pfs').addEventListener('change', () => go($('pfs').value, '/'));
$('up').addEventListener('click', goUp);
$('save').addEventListener('click', save);
$('show-facts').addEventListener('click', tellFacts);
$('export-image').addEventListener('click', exportImage);
$('free-unused').addEventListener('click', freeUnused);
$('close-volume').addEventListener('click', closeVolume);
$('show-snapshots').addEventListener('click', () => snapshots.open(place.label));
$('leave-snapshot').addEventListener('click', () => {
  const present = preferred(volume.pfs);
  if (present) go(present.label, '/');
});
$('show-check').addEventListener('click', () => checkDialog.open(volume));
$('show-tree').addEventListener('click', () => {
  const shown = $('browser').classList.toggle('tree-open');
  $('show-tree').setAttribute('aria-expanded', String(shown));
});

addEventListener('hashchange', () => {
  if (!volume) return;
  const wanted = fromHash(location.hash);
  if (wanted && volume.pfs.some((each) => each.label === wanted.label)) arrive(wanted);
});

addEventListener('keydown', (event) => {
  if (event.defaultPrevented || document.querySelector('dialog[open]') || !volume) return;
  if (event.key === 'Escape') {
    if (jobs.running > 0) jobs.cancelLast();
    else if ($('preview-pane').contains(document.activeElement)) list.focus();
  } else if (event.key === 'ArrowUp' && event.altKey) {
    event.preventDefault();
    goUp();
  }
});

// A drop anywhere on the page opens. The counter is there because entering a child leaves its parent.
let dragDepth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes('Files');
const veil = (shown) => {
  if (!shown) dragDepth = 0;
  $('drop-veil').firstElementChild.textContent = isWritable() ? 'Drop to upload into this folder' : 'Drop to open';
  $('drop-veil').hidden = !shown;
};
addEventListener('dragenter', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  dragDepth += 1;
  veil(true);
});
addEventListener('dragover', (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
addEventListener('dragleave', (event) => {
  if (carriesFiles(event) && (dragDepth -= 1) <= 0) veil(false);
});
addEventListener('drop', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  veil(false);
  if (document.querySelector('dialog[open]')) return;
  if (isWritable()) {
    // Its items are gone after the first await.
    dropped(event.dataTransfer).then((items) => editing.upload(items), (error) => showProblem(error, []));
    return;
  }
  const folder = Array.from(event.dataTransfer.items).some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  if (folder) {
    showProblem({ reason: 'folder-dropped' }, []);
    return;
  }
  open(event.dataTransfer.files);
});

// What is running would be lost without a word.
addEventListener('beforeunload', (event) => {
  if (jobs.running > 0 || (volume?.local && saving === 'unsaved')) event.preventDefault();
});

// A tab that is left may not come back: what was changed is saved at once.
addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden' && volume?.local && saving === 'unsaved') volume.client.sync().catch(() => {});
});

// --- at the start ----------------------------------------------------------------------------------

const kept = sessionStorage.getItem(KEPT);
sessionStorage.removeItem(KEPT);
if (kept) openWith('the local volume', (client) => client.localOpen(kept)).then(() => volume ?? locals.refresh());
else locals.refresh();
