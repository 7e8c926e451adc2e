// The dedicated worker that holds the core: the page never waits for a block to be read or checked.

import { localVolumes } from './changes.js';
import init, { Volume } from './farrier_web.js';

const ready = init();
// Reported by the first request; without this an early failure would count as unhandled.
ready.catch(() => {});

let volume = null;
const mounted = new Map();
const running = new Map();

/** The file system with this label, opened at its first use. */
function pfs(label) {
  if (!volume) throw Object.assign(new Error('no volume is open'), { code: 'EBADF' });
  let opening = mounted.get(label);
  if (!opening) {
    opening = volume.openPfs(label);
    mounted.set(label, opening);
    // A failure must not stick: the next request may try again.
    opening.catch(() => mounted.delete(label));
  }
  return opening;
}

// Wakes up in a new task, so that messages (a cancel above all) are seen while the core is busy with
// blocks that it has in its cache. A timer would be clamped to 4 ms, a message port is not.
const { port1, port2 } = new MessageChannel();
const waiting = [];
port1.onmessage = () => waiting.shift()();
const nextTask = () =>
  new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(null);
  });

async function opened(fresh) {
  volume = fresh;
  // A volume whose list of file systems is damaged is open all the same: it can be checked.
  const list = await volume.pfs().catch((error) => ({ entries: [], broken: [describe(error)] }));
  return { facts: volume.facts(), pfs: list };
}

const local = localVolumes({
  Volume,
  opened,
  volume: () => volume,
  pfs,
  forget: (label) => mounted.delete(label),
  send: (message) => postMessage(message),
  describe,
});

const operations = {
  ...local.operations,
  open: async ({ files, options }) => opened(await Volume.open(files, options)),
  stat: async ({ pfs: label, path }) => (await pfs(label)).stat(path),
  lstat: async ({ pfs: label, path }) => (await pfs(label)).lstat(path),
  readlink: async ({ pfs: label, path }) => (await pfs(label)).readlink(path),
  realpath: async ({ pfs: label, path }) => (await pfs(label)).realpath(path),
  readdir: async ({ pfs: label, path, cursor, limit }) => (await pfs(label)).readdir(path, cursor, limit),
  read: async ({ pfs: label, path, offset, length }) => (await pfs(label)).read(path, offset, length),
  seekData: async ({ pfs: label, path, offset }) => (await pfs(label)).seekData(path, offset),
  check: (_, request) => (local.isOpen() ? local.inTurn(() => local.save().then(() => check(request))) : check(request)),
};

const check = (request) =>
  volume.check(
    (progress) => {
      postMessage({ id: request.id, progress });
      return nextTask();
    },
    () => request.cancelled,
  );

function describe(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    return { message: error.message, code: 'EWORKER', reason: 'internal' };
  }
  const told = { message: String(error?.message ?? error), ...error };
  if (error instanceof DOMException) Object.assign(told, exception(error));
  // The core has a code for what a device said; the browser's words say more.
  const said = local.failure();
  if (said && (told.reason === 'file-changed' || told.reason === 'device-full' || told.code === 'EIO') && told.device !== undefined) {
    told.message = said.message;
    told.reason = exception(said).reason;
  }
  return told;
}

/** What an exception of the browser means where it comes to us directly. */
function exception({ name, reason }) {
  switch (name) {
    case 'AbortError':
      return { name, code: 'ECANCELED', reason };
    case 'QuotaExceededError':
      return { code: 'ENOSPC', reason: 'device-full' };
    case 'NotReadableError':
      return { code: 'EIO', reason: 'source-changed' };
    case 'InvalidStateError':
      return { code: 'EIO', reason: reason ?? 'local-gone' };
    default:
      return { code: 'EIO', reason: reason ?? 'browser' };
  }
}

onmessage = async ({ data: { id, op, args, cancel } }) => {
  if (cancel !== undefined) {
    const request = running.get(cancel);
    if (request) request.cancelled = true;
    return;
  }
  const request = { id, cancelled: false };
  running.set(id, request);
  try {
    await ready;
    const value = await operations[op](args, request);
    postMessage({ id, value }, value instanceof Uint8Array ? [value.buffer] : []);
  } catch (error) {
    postMessage({ id, error: describe(error) });
  } finally {
    running.delete(id);
  }
};
