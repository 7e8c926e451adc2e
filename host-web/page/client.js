// The page's end of the worker. One `Client` is one worker with one open volume.
//
// Protocol: structured-clone messages. Request `{ id, op, args }`, answers `{ id, value }` or
// `{ id, error }`, in between any number of `{ id, progress }`; `{ cancel: id }` asks a running
// operation to stop. `{ event: 'saving', state, error }` tells whether all changes are saved. Bytes travel as transferred buffers, files as `File` handles: neither is copied.

/** How much one message carries of a file's content. */
export const SLICE = 2 * 1024 * 1024;

/** An error of the core, as it arrived from the worker: `code` as in Node, `reason` and `place` beside it. */
export class FarrierError extends Error {
  constructor({ message, ...fields }) {
    super(message);
    this.name = 'FarrierError';
    Object.assign(this, fields);
  }
}

const aborted = () => new DOMException('Cancelled', 'AbortError');

export class Client {
  #worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'farrier' });
  #calls = new Map();
  #next = 1;
  #dead = null;
  /** Called with `saved`, `unsaved` or `failed`, and why. */
  onSaving = null;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    // The module did not load or something threw outside of a request: nothing can be expected any more.
    this.#worker.onerror = (event) => {
      event.preventDefault?.();
      this.#die({ message: event.message || 'the worker did not start', code: 'EWORKER', reason: 'worker' });
    };
  }

  #receive({ id, value, error, progress, event, state }) {
    if (event === 'saving') {
      this.onSaving?.(state, error ? new FarrierError(error) : null);
      return;
    }
    const call = this.#calls.get(id);
    if (!call) return;
    if (progress !== undefined) {
      call.onProgress?.(progress);
      return;
    }
    this.#calls.delete(id);
    call.done();
    if (error) {
      call.reject(new FarrierError(error));
      // A trap leaves the module's memory in an unknown state: it must not answer again.
      if (error.reason === 'internal') this.#die(error);
    } else {
      call.resolve(value);
    }
  }

  #die(error) {
    this.#dead = error;
    this.#worker.terminate();
    for (const call of this.#calls.values()) {
      call.done();
      call.reject(new FarrierError(error));
    }
    this.#calls.clear();
  }

  /** Sends a request; `signal` asks the worker to stop, the promise then settles as the worker answers. */
  call(op, args = {}, { onProgress, signal } = {}) {
    if (this.#dead) return Promise.reject(new FarrierError(this.#dead));
    if (signal?.aborted) return Promise.reject(aborted());
    const id = this.#next++;
    const cancel = () => this.#worker.postMessage({ cancel: id });
    signal?.addEventListener('abort', cancel, { once: true });
    return new Promise((resolve, reject) => {
      const done = () => signal?.removeEventListener('abort', cancel);
      this.#calls.set(id, { resolve, reject, onProgress, done });
      this.#worker.postMessage({ id, op, args });
    });
  }

  /** Opens the volume that these files hold together: `{ facts, pfs }`. */
  open(files, options = {}) {
    return this.call('open', { files: Array.from(files), options });
  }

  stat(pfs, path) {
    return this.call('stat', { pfs, path });
  }

  lstat(pfs, path) {
    return this.call('lstat', { pfs, path });
  }

  readlink(pfs, path) {
    return this.call('readlink', { pfs, path });
  }

  realpath(pfs, path) {
    return this.call('realpath', { pfs, path });
  }

  /** One piece of a folder: `{ entries, broken, cursor }`, `cursor` null at the end. */
  readdir(pfs, path, cursor = null, limit = 1000) {
    return this.call('readdir', { pfs, path, cursor, limit });
  }

  /** Up to `length` bytes from `offset`; fewer only at the end of the file. */
  read(pfs, path, offset, length) {
    return this.call('read', { pfs, path, offset, length });
  }

  /** The first stored byte from `offset` on, or null where only a hole follows. */
  async seekData(pfs, path, offset) {
    try {
      return await this.call('seekData', { pfs, path, offset });
    } catch (error) {
      if (error.code === 'ENXIO') return null;
      throw error;
    }
  }

  // --- local volumes: see changes.js ---------------------------------------------------------------

  /** The volumes that this browser keeps. */
  localList() {
    return this.call('localList');
  }

  /** Makes a volume and opens it: `{ facts, pfs, local }`. `options`: name, size, label, compression. */
  localCreate(options) {
    return this.call('localCreate', options);
  }

  localOpen(id) {
    return this.call('localOpen', { id });
  }

  /** Keeps a copy of an image as a local volume, and opens it. */
  localImport(file, name, options) {
    return this.call('localImport', { file, name }, options);
  }

  localDelete(id) {
    return this.call('localDelete', { id });
  }

  /** Commits and lets go of the volume; nothing else can be asked then. */
  localClose() {
    return this.call('localClose');
  }

  /** Calls a method of the bindings' class `Pfs` that changes something, and commits. */
  change(pfs, method, ...args) {
    return this.call('change', { pfs, method, args });
  }

  /** As `change`, but the commit is left for later. */
  changeOnly(pfs, method, ...args) {
    return this.call('change', { pfs, method, args, keepOpen: true });
  }

  /** The same for the class `Volume`. */
  changeVolume(method, ...args) {
    return this.call('changeVolume', { method, args });
  }

  upload(pfs, directory, name, file, replace, options) {
    return this.call('upload', { pfs, directory, name, file, replace }, options);
  }

  /** Removes entries with all that is in them; how many that were. */
  remove(pfs, paths, options) {
    return this.call('remove', { pfs, paths }, options);
  }

  sync() {
    return this.call('sync');
  }

  space() {
    return this.call('space');
  }

  pfsList() {
    return this.call('pfsList');
  }

  /** The device in pieces, `{ offset, bytes }`, without what is zero; nothing changes meanwhile. */
  async *image({ signal, onSize } = {}) {
    const { size, stored } = await this.call('freeze');
    onSize?.(size, stored);
    try {
      for (let from = 0; ; ) {
        if (signal?.aborted) throw aborted();
        const records = await this.call('records', { from, count: 64 });
        if (records.length === 0) return;
        yield* neighbours(records);
        from = records.at(-1)[0] + 1;
      }
    } finally {
      await this.call('thaw').catch(() => {});
    }
  }

  check(options) {
    return this.call('check', {}, options);
  }

  /** A folder in pieces: `{ entries, broken }`. */
  async *list(pfs, path, { limit, signal } = {}) {
    let cursor = null;
    do {
      if (signal?.aborted) throw aborted();
      const piece = await this.readdir(pfs, path, cursor, limit);
      yield piece;
      cursor = piece.cursor;
    } while (cursor !== null);
  }

  /** A file's content in slices; the next slice is under way while one is being used. */
  async *content(pfs, path, size, { signal } = {}) {
    const slice = (offset) => {
      const read = this.read(pfs, path, offset, Math.min(SLICE, size - offset));
      read.catch(() => {}); // It is awaited below, unless the consumer leaves first.
      return read;
    };
    let ahead = size > 0 ? slice(0) : null;
    for (let offset = 0; offset < size; ) {
      const bytes = await ahead;
      if (signal?.aborted) throw aborted();
      if (bytes.length === 0) {
        throw new FarrierError({ message: `${path} ends at ${offset} of ${size} bytes`, code: 'EIO', path });
      }
      offset += bytes.length;
      ahead = offset < size ? slice(offset) : null;
      yield bytes;
    }
  }

  /** Ends the worker and with it everything it holds. */
  close() {
    this.#die({ message: 'the volume was closed', code: 'EBADF', reason: 'closed' });
  }
}

/** Records that follow each other as one piece: every write to a file costs a trip to another process. */
function* neighbours(records) {
  for (let first = 0; first < records.length; ) {
    let end = first + 1;
    while (end < records.length && records[end][0] === records[end - 1][0] + 1) end += 1;
    const [number, { length }] = records[first];
    const bytes = new Uint8Array((end - first) * length);
    for (let at = first; at < end; at += 1) bytes.set(records[at][1], (at - first) * length);
    yield { offset: number * length, bytes };
    first = end;
  }
}
