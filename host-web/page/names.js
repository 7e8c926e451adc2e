// Names and paths.
//
// A HAMMER2 name is a string of bytes; nearly always it is UTF-8, but nothing on the media says so.
// The bindings hand names out as JavaScript strings in which each byte that is not part of valid
// UTF-8 stands as one lone surrogate, U+DC80 to U+DCFF (Python calls this "surrogateescape"). So
// every name has exactly one string, a string leads back to exactly the same bytes, and paths can be
// joined, compared and used as keys like any other. What must not happen is to *show* such a string
// or to put it into a URL or an archive as it is: that is what this module is for.

const encoder = new TextEncoder();

/** @returns {boolean} whether the name is valid UTF-8 on the media */
export const isUtf8 = (name) => name.isWellFormed();

/** The bytes of a name as they stand on the media. */
export function toBytes(name) {
  if (isUtf8(name)) return encoder.encode(name);
  const out = [];
  // Iterating a string gives whole code points, and a lone surrogate by itself.
  for (const char of name) {
    const code = char.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) out.push(code - 0xdc00);
    else out.push(...encoder.encode(char));
  }
  return Uint8Array.from(out);
}

/** The string for bytes; the inverse of `toBytes`. */
export function fromBytes(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // Slow, and only for names that need it: take the longest valid sequence at each place.
    let out = '';
    for (let at = 0; at < bytes.length; ) {
      const length = sequenceLength(bytes, at);
      if (length === 0) out += String.fromCharCode(0xdc00 + bytes[at++]);
      else {
        out += new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(at, at + length));
        at += length;
      }
    }
    return out;
  }
}

function sequenceLength(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(at, at + length));
    return length;
  } catch {
    return 0;
  }
}

// Controls would break the layout; direction marks can make "exe.txt" out of "txt.exe".
const UNSHOWABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The name as a person may see it: safe for one line, never reordered by its own characters. */
export const display = (name) =>
  name.toWellFormed().replace(UNSHOWABLE, (char) => {
    const code = char.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? '\u2421' : '\ufffd';
  });

/** A name that any system accepts for a file that the page creates. */
export function safeFileName(name) {
  const clean = display(name).replace(/[\\/:*?"<>|]/g, '_').replace(/^\.+$/, '_').replace(/[. ]+$/, '');
  return clean || 'download';
}

export const join = (dir, name) => (dir === '/' ? `/${name}` : `${dir}/${name}`);

export function parent(path) {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

export const basename = (path) => path.slice(path.lastIndexOf('/') + 1);

/** The paths from the root down to `path`, both included. */
export function ancestors(path) {
  const out = ['/'];
  if (path === '/') return out;
  for (let at = path.indexOf('/', 1); at !== -1; at = path.indexOf('/', at + 1)) {
    out.push(path.slice(0, at));
  }
  out.push(path);
  return out;
}

// --- the place in the URL: #/LABEL/path ------------------------------------------------------------

const PLAIN = /[A-Za-z0-9._~!$&'()*+,;=:@-]/;

const escapeSegment = (name) =>
  Array.from(toBytes(name), (byte) => {
    const char = String.fromCharCode(byte);
    return PLAIN.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');

function unescapeSegment(text) {
  const bytes = [];
  for (let at = 0; at < text.length; ) {
    const hex = /^%([0-9A-Fa-f]{2})/.exec(text.slice(at, at + 3));
    if (hex) {
      bytes.push(parseInt(hex[1], 16));
      at += 3;
    } else {
      const char = String.fromCodePoint(text.codePointAt(at));
      bytes.push(...encoder.encode(char));
      at += char.length;
    }
  }
  return fromBytes(Uint8Array.from(bytes));
}

/** The URL fragment for a place in a file system. */
export const toHash = (label, path) =>
  `#/${escapeSegment(label)}${path === '/' ? '' : path.split('/').map(escapeSegment).join('/')}`;

/** The place that a fragment names, or null. */
export function fromHash(hash) {
  if (!hash.startsWith('#/')) return null;
  const [label, ...rest] = hash.slice(2).split('/').map(unescapeSegment);
  if (!label) return null;
  const names = rest.filter((name) => name !== '' && name !== '.' && name !== '..');
  return { label, path: names.length ? `/${names.join('/')}` : '/' };
}
