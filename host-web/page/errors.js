// What an error means to the person in front of the page: one sentence about what is wrong, one about
// what to do. The bindings say `reason` (a word of ours) and `code` (POSIX); see host-web/README.md.

import * as format from './format.js';
import { display } from './names.js';

const fileName = (error, files) => {
  const name = files?.[error.device]?.name;
  return name ? `\u201c${display(name)}\u201d` : 'This file';
};

const REASONS = {
  'not-hammer2': (error, files) => ({
    title: `${fileName(error, files)} is not a HAMMER2 image.`,
    advice: 'Choose the image of the partition that holds the file system; from an image of a whole disk, cut that partition out first.',
  }),
  'too-small': (error, files) => ({
    title: `${fileName(error, files)} is too short to hold a HAMMER2 volume (${format.exactBytes(error.size)}).`,
    advice: 'Check that this is the right file and that it was copied whole.',
  }),
  truncated: (error, files) => ({
    title: `${fileName(error, files)} is truncated: its volume has ${format.exactBytes(error.need)}, the file only ${format.exactBytes(error.size)}.`,
    advice: 'Copy the image again, in full; or read what is left of it.',
    retry: { label: 'Read what is left', options: { allowTruncated: true } },
  }),
  'byte-order': (error, files) => ({
    title: `${fileName(error, files)} was written by a machine of the opposite byte order.`,
    advice: 'Copy the files out on a machine like the one that wrote it.',
  }),
  version: (error, files) => ({
    title: `${fileName(error, files)} has a newer version of the format than this page knows.`,
    advice: 'Open it with a newer release of Farrier.',
  }),
  'fs-type': (error, files) => ({
    title: `${fileName(error, files)} holds another kind of file system behind a HAMMER2 header.`,
    advice: 'Open it with the program that made it.',
  }),
  'no-header': (error, files) => ({
    title: `${fileName(error, files)} has no intact volume header; all copies are damaged.`,
    advice: 'Make a new copy of the image, or restore the volume from a backup.',
  }),
  'missing-volumes': (error) => ({
    title: `This file system spans ${format.count(error.need, 'volume')}, but ${error.given} ${error.given === 1 ? 'was' : 'were'} given.`,
    advice: `Choose the files of all volumes at once (Ctrl or Shift in the file dialog); volume ${error.missing} is the first that is missing.`,
  }),
  mixed: (error, files) => ({
    title: `${fileName(error, files)} belongs to another file system than the first file.`,
    advice: 'Choose only the volumes of one file system.',
  }),
  'same-volume': (error, files) => ({
    title: `${fileName(error, files)} is volume ${error.volume}, which another of the files is already.`,
    advice: 'Leave out the copy that you do not want.',
  }),
  geometry: (error, files) => ({
    title: `${fileName(error, files)} does not fit to the other volumes: numbers or sizes contradict each other.`,
    advice: 'Check that these are the right files, all from the same time.',
  }),
  'too-many-devices': () => ({
    title: 'A HAMMER2 file system has at most 64 volumes.',
    advice: 'Choose only the volumes of one file system.',
  }),
  'file-changed': (error, files) => ({
    title: `${fileName(error, files)} can no longer be read: it was changed, moved or removed after it was chosen.`,
    advice: 'Choose the file again.',
  }),
  damaged: (error) => ({
    title: `The image is damaged here: ${error.message}.`,
    advice: 'Other files are not affected; Check lists every damaged place.',
  }),
  'pfs-damaged': (error) => ({
    title: `${format.count(error.number, 'file system')} of this volume cannot be read: ${error.message}.`,
    advice: 'The others are listed; Check shows every damaged place.',
  }),
  'no-super-root': () => ({
    title: 'The volume header refers to no file systems.',
    advice: 'Restore the volume from a backup.',
  }),
  'folder-dropped': () => ({
    title: 'A folder was dropped, not an image.',
    advice: 'Drop the image itself: one file, or one for each volume.',
  }),
  'bad-name': () => ({ title: 'Nothing can be called so.', advice: 'A name is not empty, not \u201c.\u201d or \u201c..\u201d, and holds no \u201c/\u201d.' }),
  'cannot-format': (error) => ({ title: `There can be no such volume: ${error.message}.`, advice: 'Change what is wrong and try again.' }),
  'in-use': () => ({
    title: 'This volume is open in another tab.',
    advice: 'Go on there, or close it there and open it here: only one tab can write to a volume.',
  }),
  'device-full': () => ({
    title: 'The browser has no more room for this site: the last changes could not be saved.',
    advice: 'Everything up to \u201cAll changes saved\u201d is safe. Free some disk space or delete another local volume, then close this volume and open it again.',
  }),
  'no-quota': (error) => ({
    title: `There is no room for this: it needs ${format.bytes(error.need)}, and the browser gives this site ${format.bytes(error.have)} more.`,
    advice: 'Free some disk space or delete another local volume first.',
  }),
  'local-gone': (error) => ({
    title: `This volume cannot be reached any more: ${error.message}.`,
    advice: 'Close it; if it is still listed, open it again. What was exported as an image can be imported.',
  }),
  'source-changed': () => ({
    title: 'A file that was to be read was changed, moved or removed meanwhile.',
    advice: 'Choose it again.',
  }),
  browser: (error) => ({
    title: `The browser could not store this: ${error.message}.`,
    advice: 'Close the volume and open it again; if that does not help, restart the browser.',
  }),
  internal: (error) => ({
    title: `Farrier failed on this image (${error.message}).`,
    advice: 'Open the image again; if it happens again, please report it.',
  }),
  worker: (error) => ({
    title: `The page could not start its worker (${error.message}).`,
    advice: 'Reload the page; a browser from 2024 or later is needed.',
  }),
};

const CODES = {
  EEXIST: () => ({ title: 'This name is taken.', advice: 'Choose another one.' }),
  ENOTEMPTY: () => ({ title: 'A folder is not empty.', advice: 'Delete what is in it first.' }),
  ENOSPC: () => ({
    title: 'The volume is full.',
    advice: 'Delete something, or a snapshot; then \u201cFree up space\u201d under \u201cVolume\u201d.',
  }),
  EROFS: () => ({ title: 'This cannot be changed.', advice: 'Snapshots and opened images are only read.' }),
  ENAMETOOLONG: () => ({ title: 'This name is too long.', advice: 'A name has at most 255 bytes; letters with accents count twice or more.' }),
  EISDIR: () => ({ title: 'There is a folder of this name.', advice: 'Choose another name.' }),
  EFBIG: () => ({ title: 'The file would become too large.', advice: 'Split it.' }),
  EBUSY: () => ({ title: 'This is in use.', advice: 'Try again when what is running has ended.' }),
  ENOENT: () => ({ title: 'No such file or folder.', advice: 'Go back to the parent folder.' }),
  ENOTDIR: () => ({ title: 'A part of this path is not a folder.', advice: 'Go back to the parent folder.' }),
  ELOOP: () => ({ title: 'The symbolic links here lead in a circle.', advice: 'Open the folder that you want directly.' }),
  EIO: (error) => ({ title: `Reading failed: ${error.message}.`, advice: 'Try again; if it stays, the image or the disk under it is damaged.' }),
};

/** Whether the error only says that somebody cancelled. */
export const isCancel = (error) => error?.name === 'AbortError';

/**
 * @param {Error} error
 * @param {File[]} [files]  the files that were given, in their order
 * @returns {{title: string, advice: string, retry?: {label: string, options: object}}}
 */
export function explain(error, files) {
  const known = REASONS[error.reason] ?? CODES[error.code];
  if (known) return known(error, files);
  return { title: `${error.message || error}.`, advice: 'Please report this if you did not expect it.' };
}
