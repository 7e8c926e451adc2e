// Numbers, dates and kinds as people read them.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A size in binary units, three digits at most: "512 B", "4.0 KiB", "1.25 GiB". */
export function bytes(value) {
  let size = Number(value);
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${size} B`;
  return `${size.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)} ${UNITS[unit]}`;
}

const grouped = new Intl.NumberFormat(undefined);

/** "1,234,567 bytes" */
export const exactBytes = (value) =>
  `${grouped.format(value)} ${Number(value) === 1 ? 'byte' : 'bytes'}`;

/** "1 item", "20,000 items" */
export const count = (n, one, many = `${one}s`) => `${grouped.format(n)} ${n === 1 ? one : many}`;

const short = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const long = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

// The media's clock has 64 bits of microseconds, a Date has less: times outside say so.
const dated = (format) => (ms) => {
  const date = new Date(Number(ms));
  return Number.isNaN(date.getTime()) ? 'beyond the calendar' : format.format(date);
};
export const date = dated(short);
export const fullDate = dated(long);

const KINDS = {
  dir: 'Folder',
  symlink: 'Link',
  fifo: 'FIFO',
  cdev: 'Char device',
  bdev: 'Block device',
  socket: 'Socket',
  whiteout: 'Whiteout',
  unknown: 'Unknown',
};

/** What the list shows in the column "Type". */
export function kind(entry) {
  if (entry.error) return 'Unreadable';
  if (entry.type !== 'file') return KINDS[entry.type] ?? KINDS.unknown;
  const extension = extensionOf(entry.name);
  return extension ? `${extension.toUpperCase()} file` : 'File';
}

/** The extension without its dot, or '' when the name has none that means anything. */
export function extensionOf(name) {
  const match = /[^.]\.([A-Za-z0-9]{1,8})$/.exec(name);
  return match ? match[1].toLowerCase() : '';
}

const TYPE_LETTERS = { dir: 'd', symlink: 'l', fifo: 'p', cdev: 'c', bdev: 'b', socket: 's' };

/** "-rwxr-xr-x", as ls shows it. */
export function mode(entry) {
  const bits = entry.mode;
  let out = TYPE_LETTERS[entry.type] ?? '-';
  for (const shift of [6, 3, 0]) {
    const part = (bits >> shift) & 7;
    const special = bits & (shift === 6 ? 0o4000 : shift === 3 ? 0o2000 : 0o1000);
    const set = shift === 0 ? 't' : 's';
    out += part & 4 ? 'r' : '-';
    out += part & 2 ? 'w' : '-';
    if (special) out += part & 1 ? set : set.toUpperCase();
    else out += part & 1 ? 'x' : '-';
  }
  return out;
}

const collator = new Intl.Collator(undefined, { numeric: true });

const byName = (a, b) => collator.compare(a.name, b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
const byNumber = (field) => (a, b) => {
  const left = a[field] ?? -1;
  const right = b[field] ?? -1;
  return left < right ? -1 : left > right ? 1 : 0;
};
const ORDERS = {
  name: byName,
  size: byNumber('size'),
  modified: byNumber('mtimeMs'),
  type: (a, b) => collator.compare(kind(a), kind(b)),
};

/** A comparison for a sort order: folders first in every one, equal entries by name. */
export function comparison({ column, descending }) {
  const order = ORDERS[column];
  const sign = descending ? -1 : 1;
  return (a, b) => {
    const folders = (b.type === 'dir') - (a.type === 'dir');
    return folders || sign * order(a, b) || byName(a, b);
  };
}

/** "3 s", "4 min", "2 h 05 min" */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}
