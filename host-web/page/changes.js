// The worker's part for local volumes: making, opening and removing them, and everything that changes one.
//
// Changes are made one after the other (`inTurn`), since commits must not overlap; reading goes on beside
// them. What was changed is committed at the end of each action of a person, by the core when it is much,
// and in any case when nothing was changed for a second. The page is told whether all is saved.

import { createDevice, deleteDevice, listDevices, openDevice, RECORD } from './device.js';

const IDLE_MS = 1000;
/** How much of an uploaded file is written at once. */
const PIECE = 1024 * 1024;
/** How much of an image is read at once when it is imported. */
const IMPORT_PIECE = 8 * 1024 * 1024;

/** What `change` may call. */
const CHANGES = new Set(['mkdir', 'create', 'write', 'symlink', 'link', 'rename', 'unlink', 'rmdir', 'setAttributes']);
const VOLUME_CHANGES = new Set(['snapshot', 'createPfs', 'deletePfs', 'renamePfs', 'freeUnused']);

const join = (dir, name) => (dir === '/' ? `/${name}` : `${dir}/${name}`);

/**
 * @param {object} context  Volume: the class; opened(volume); volume(); pfs(label), forget(label);
 *   send(message); nextTask()
 */
export function localVolumes(context) {
  let device = null;
  let queue = Promise.resolve();
  let timer = null;
  let told = null;

  /** Runs `work` when everything before it has ended, well or badly. */
  function inTurn(work) {
    const result = queue.then(work);
    queue = result.catch(() => {});
    return result;
  }

  function tell(state, error) {
    if (state === told) return;
    told = state;
    context.send({ event: 'saving', state, error: error && context.describe(error) });
  }

  function changed() {
    if (told === 'failed') return;
    tell('unsaved');
    clearTimeout(timer);
    timer = setTimeout(() => inTurn(save).catch(() => {}), IDLE_MS);
  }

  async function save() {
    clearTimeout(timer);
    try {
      await context.volume().sync();
      tell('saved');
    } catch (error) {
      tell('failed', error);
      throw error;
    }
  }

  /** One change, by itself in its turn. */
  const change = (work) =>
    inTurn(async () => {
      changed();
      try {
        return await work();
      } finally {
        // It was the first thing to notice that the volume takes no more changes.
        if (!context.volume().isDirty && told === 'unsaved') tell('saved');
      }
    });

  async function use(opened) {
    device = opened;
    try {
      const volume = await context.Volume.openForWriting(opened);
      told = null;
      return { ...(await context.opened(volume)), local: opened.about };
    } catch (error) {
      opened.close();
      device = null;
      throw error;
    }
  }

  async function make(about, fill) {
    const fresh = await createDevice(about);
    try {
      await fill(fresh);
      await fresh.tell({ ready: true });
    } catch (error) {
      fresh.close();
      await deleteDevice(fresh.about.id).catch(() => {});
      throw error;
    }
    return use(fresh);
  }

  /** Copies what is not zero; the device keeps nothing else. */
  async function copyImage(file, target, request) {
    for (let offset = 0; offset < file.size; offset += IMPORT_PIECE) {
      throwIfCancelled(request);
      const bytes = new Uint8Array(await file.slice(offset, offset + IMPORT_PIECE).arrayBuffer());
      for (let at = 0; at < bytes.length; at += RECORD) {
        const record = bytes.subarray(at, at + RECORD);
        if (record.some((byte) => byte !== 0)) target.write(offset + at, record);
      }
      await target.barrier();
      context.send({ id: request.id, progress: { done: Math.min(offset + IMPORT_PIECE, file.size), total: file.size } });
    }
  }

  /** Everything below a path, folders behind their contents; a stack of our own, since folders nest deeply. */
  async function removeAll(tree, path, request, removed) {
    const pending = [{ path, entered: false }];
    while (pending.length > 0) {
      throwIfCancelled(request);
      const top = pending.at(-1);
      if (top.entered || (await tree.lstat(top.path)).type !== 'dir') {
        await change(() => (top.entered ? tree.rmdir(top.path) : tree.unlink(top.path)));
        pending.pop();
        context.send({ id: request.id, progress: { done: (removed.count += 1) } });
        continue;
      }
      top.entered = true;
      let cursor = null;
      do {
        const page = await tree.readdir(top.path, cursor, 1000);
        if (page.broken.length > 0) throw Object.assign(new Error(page.broken[0].message), page.broken[0]);
        for (const { name } of page.entries) pending.push({ path: join(top.path, name), entered: false });
        cursor = page.cursor;
      } while (cursor !== null);
    }
  }

  async function uploadInto(tree, part, file, request) {
    for (let offset = 0; offset < file.size; offset += PIECE) {
      throwIfCancelled(request);
      const bytes = new Uint8Array(await file.slice(offset, offset + PIECE).arrayBuffer());
      await change(() => tree.write(part, offset, bytes));
      context.send({ id: request.id, progress: { done: offset + bytes.length } });
    }
    await change(() => tree.setAttributes(part, { mtimeMs: file.lastModified }));
  }

  let thaw = null;

  return {
    /** What the browser said of the device, where the core has only a code for it. */
    failure: () => device?.failure ?? null,
    isOpen: () => device !== null,
    inTurn,
    save,

    operations: {
      localList: () => listDevices(),
      localDelete: ({ id }) => deleteDevice(id),
      localOpen: async ({ id }) => use(await openDevice(id)),
      localCreate: ({ name, size, ...options }) => make({ name, size }, (fresh) => context.Volume.format(fresh, options)),

      async localImport({ file, name }, request) {
        // What cannot be opened is refused before anything is copied, with its reason.
        (await context.Volume.open([file])).free();
        return make({ name, size: file.size }, (fresh) => copyImage(file, fresh, request));
      },

      /** Calls one method of the file system that changes something; and commits, unless told otherwise. */
      async change({ pfs, method, args, keepOpen = false }) {
        if (!CHANGES.has(method)) throw new TypeError(`no such change: ${method}`);
        const tree = await context.pfs(pfs);
        const value = await change(() => tree[method](...args));
        if (!keepOpen) await inTurn(save);
        return value;
      },

      /** The same for the volume; what it calls commits by itself. */
      async changeVolume({ method, args }) {
        if (!VOLUME_CHANGES.has(method)) throw new TypeError(`no such change: ${method}`);
        if (method === 'deletePfs' || method === 'renamePfs') context.forget(args[0]);
        return inTurn(async () => {
          const value = await context.volume()[method](...args);
          tell('saved');
          return value;
        });
      },

      /** Removes entries with all that is in them. */
      async remove({ pfs, paths }, request) {
        const tree = await context.pfs(pfs);
        const removed = { count: 0 };
        try {
          for (const path of paths) await removeAll(tree, path, request, removed);
        } finally {
          await inTurn(save);
        }
        return removed.count;
      },

      /** Writes a file under a name of its own, and gives it its right one when it is whole. */
      async upload({ pfs, directory, name, file, replace }, request) {
        const tree = await context.pfs(pfs);
        const part = join(directory, `.farrier-upload-${crypto.randomUUID()}.part`);
        await change(() => tree.create(part));
        try {
          await uploadInto(tree, part, file, request);
          await change(() => tree.rename(part, join(directory, name), replace));
        } catch (error) {
          await change(() => tree.unlink(part)).catch(() => {});
          throw error;
        }
      },

      sync: () => inTurn(save),
      space: () => context.volume().space(),
      stored: () => device.stored(),
      pfsList: () => context.volume().pfs(),

      /** Commits, and keeps the device as it is until `thaw`. */
      freeze: () =>
        new Promise((resolve, reject) => {
          const held = new Promise((release) => {
            inTurn(async () => {
              await save();
              thaw = release;
              resolve({ size: device.size, stored: await device.stored() });
              await held;
            }).catch(reject);
          });
        }),
      thaw: () => thaw?.(),
      records: ({ from, count }) => device.records(from, count),

      async localClose() {
        try {
          if (told !== 'failed') await inTurn(save);
        } finally {
          device?.close();
          device = null;
        }
      },
    },
  };
}

function throwIfCancelled(request) {
  if (request.cancelled) throw new DOMException('Cancelled', 'AbortError');
}
