// A stand-in for the bindings with a small file system in memory: what the page does when reading is
// slow, fails or never ends can be shown with it at will. It is served in place of the real module.
//
// The name of the opened file chooses what happens: "plain.img" opens; "REASON.img" is refused so.

const encoder = new TextEncoder();
const fail = (code, message, more = {}) => Object.assign(new Error(message), { code, ...more });

const DAY = 86_400_000;
const BASE = Date.UTC(2026, 2, 14, 9, 26);
let inodes = 1;

const node = (type, more = {}) => ({
  type, ino: inodes++, size: 0, mode: type === 'dir' ? 0o755 : 0o644, nlink: 1, uid: 0, gid: 0,
  mtimeMs: BASE - (inodes % 97) * DAY, ctimeMs: BASE, compression: 'lz4', check: 'xxhash64', ...more,
});
const file = (bytes, more) => node('file', { bytes, size: bytes.length, ...more });
const text = (string) => file(encoder.encode(string));
const dir = (children = {}) => node('dir', { children });

// A one-pixel PNG.
const png = Uint8Array.from(
  atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='),
  (char) => char.charCodeAt(0),
);

function pattern(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = (at * 31 + (at >> 8)) & 0xff;
  return bytes;
}

const many = {};
for (let n = 0; n < 20_000; n += 1) many[`entry-${String(n).padStart(5, '0')}.txt`] = text(`number ${n}\n`);

const root = dir({
  docs: dir({
    'readme.txt': text('Farrier\n=======\n\nHAMMER2 storage, wherever the data is needed.\n'.repeat(40)),
    'notes.md': text('# Notes\n'),
    drafts: dir({ 'one.txt': text('1'), 'two.txt': text('2') }),
  }),
  empty: dir(),
  many: dir(many),
  pictures: dir({ 'dot.png': file(png) }),
  'alpha.txt': text('alpha\n'),
  'beta.txt': text('beta\n'),
  'big.bin': file(pattern(9 * 1024 * 1024 + 17)),
  'damaged.bin': file(pattern(4096), { damaged: true }),
  'crash.bin': node('file', { size: 10, crash: true }),
  'endless.bin': node('file', { size: 1024 ** 3, endless: true }),
  'large.bin': node('file', { size: 257 * 1024 * 1024, endless: true }),
  'file10.txt': text('ten'),
  'file2.txt': text('two'),
  'line\nbreak': text('a name with a line break'),
  'not utf-8 \udcff': text('bytes'),
  link: node('symlink', { target: 'docs/readme.txt', mode: 0o777 }),
  broken: node('symlink', { target: '/nowhere', mode: 0o777 }),
  pipe: node('fifo'),
  unreadable: node('file', { error: fail('EIO', 'inode with key 0x9 at 0x1c00400: check code is 1, the block has 2', { reason: 'damaged' }) }),
});
const snapshot = dir({ 'old.txt': text('as it was\n') });

function find(start, path, followLast, depth = 0) {
  let at = start;
  let walked = '';
  const names = path.split('/').filter(Boolean);
  for (const [index, name] of names.entries()) {
    if (at.type !== 'dir') throw fail('ENOTDIR', 'not a directory', { path });
    const next = at.children[name];
    if (!next) throw fail('ENOENT', 'no such file or directory', { path });
    if (next.error) throw next.error;
    walked = `${walked}/${name}`;
    if (next.type === 'symlink' && (followLast || index < names.length - 1)) {
      if (depth > 20) throw fail('ELOOP', 'too many links', { path });
      const base = next.target.startsWith('/') ? '' : walked.slice(0, walked.lastIndexOf('/'));
      return find(start, [base, next.target, ...names.slice(index + 1)].join('/'), followLast, depth + 1);
    }
    at = next;
  }
  return { node: at, path: walked || '/' };
}

const attributes = (name, { children, bytes, target, damaged, endless, crash, error, ...rest }) => ({
  name, ...rest, ...(error ? { error: { message: error.message, ...error } } : {}),
});

class Pfs {
  constructor(top) {
    this.top = top;
  }
  async stat(path) {
    const found = find(this.top, path, true);
    return attributes(found.path.slice(found.path.lastIndexOf('/') + 1), found.node);
  }
  async lstat(path) {
    return attributes(path.slice(path.lastIndexOf('/') + 1), find(this.top, path, false).node);
  }
  async readlink(path) {
    return find(this.top, path, false).node.target;
  }
  async realpath(path) {
    return find(this.top, path, true).path;
  }
  async readdir(path, cursor, limit) {
    const all = Object.entries(find(this.top, path, true).node.children);
    const from = cursor ?? 0;
    const entries = all.slice(from, from + limit).map(([name, each]) => attributes(name, each));
    return { entries, broken: [], cursor: from + limit < all.length ? from + limit : null };
  }
  async read(path, offset, length) {
    const { node: found } = find(this.top, path, true);
    if (found.damaged && offset + length > 1024) {
      throw fail('EIO', 'data block with key 0x0 at 0x1c00000: check code is 1, the block has 2', { reason: 'damaged' });
    }
    if (found.crash) throw new WebAssembly.RuntimeError('unreachable');
    if (found.endless) return new Uint8Array(Math.min(length, found.size - offset));
    return found.bytes.slice(offset, offset + length);
  }
}

const REFUSALS = {
  truncated: { need: 67108864, size: 50331648 },
  'missing-volumes': { need: 2, given: 1, missing: 1 },
  'too-small': { size: 100 },
};

export class Volume {
  static async open(files) {
    const [, reason] = /^(.*)\.img$/.exec(files[0].name) ?? [null, 'not-hammer2'];
    if (reason !== 'plain') throw fail('EINVAL', reason, { reason, device: 0, ...REFUSALS[reason] });
    return new Volume();
  }
  facts() {
    return {
      size: 2 ** 36, free: 2 ** 35, version: 2, fsid: '5b74ff49-ba1e-6e47-b317-f7a835231915', mirrorTid: 4711,
      volumes: [{ device: 0, volume: 0, size: 2 ** 36, header: 1 }],
    };
  }
  async pfs() {
    const entries = [
      { label: 'LOCAL', type: 'master', snapshot: false, createdMs: BASE, bytes: 0 },
      { label: 'DATA', type: 'master', snapshot: false, createdMs: BASE, bytes: 9_000_000 },
      { label: 'DATA.2026-03-01', type: 'master', snapshot: true, createdMs: BASE - 13 * DAY, bytes: 1024 },
    ];
    return { entries, broken: [] };
  }
  async openPfs(label) {
    if (label === 'LOCAL') return new Pfs(dir());
    return new Pfs(label === 'DATA' ? root : snapshot);
  }
  /** Goes on until it is stopped, but for a finding every hundred steps: tests decide when it is enough. */
  async check(onProgress, shouldStop) {
    let blocks = 0;
    const totals = () => ({ done: blocks, total: 1_000_000, blocks, bytes: blocks * 65536, fatal: Math.floor(blocks / 100), repairable: 0, information: 0 });
    while (!shouldStop()) {
      blocks += 10;
      const fresh = blocks % 100 === 0 ? [{ grade: 'fatal', code: 'check-data', message: `block ${blocks} has the wrong check code`, pfs: 'DATA', ino: 7, path: '/big.bin' }] : [];
      await onProgress({ ...totals(), fresh });
      // As the real one: never more often than a page can draw.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return { ...totals(), fresh: [], stopped: true };
  }
}

export default async function init() {}
