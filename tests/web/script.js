// Runs in the page: the script of operations that every host runs (tests/script.json; what it means
// stands in tests/src/script.rs), over a new local volume, through the page's own worker.

import { Client } from '/client.js';

const VOLUME_BYTES = 64 * 1024 * 1024;

function bytesOf({ text, times = 1, noise, length }, number) {
  if (text !== undefined) return new TextEncoder().encode(text.repeat(times));
  const bytes = new Uint8Array(length);
  let state = (noise + number) >>> 0;
  for (let at = 0; at < length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 255;
  }
  return bytes;
}

const octal = (mode) => Number.parseInt(mode, 8);

async function write(client, step, path, number) {
  await client.stat('DATA', path).catch((error) => {
    if (error.code !== 'ENOENT') throw error;
    return client.changeOnly('DATA', 'create', path, 0o644);
  });
  await client.changeOnly('DATA', 'write', path, step.offset ?? 0, bytesOf(step.contents, number));
}

function run(client, step, path, other, number) {
  const change = (method, ...args) => client.changeOnly('DATA', method, ...args);
  switch (step.do) {
    case 'mkdir': return change('mkdir', path, octal(step.mode ?? '0755'));
    case 'write': return write(client, step, path, number);
    case 'append': return change('write', path, null, bytesOf(step.contents, number));
    case 'truncate': return change('setAttributes', path, { size: step.size });
    case 'rename': return change('rename', path, other, true);
    case 'link': return change('link', path, other);
    case 'symlink': return change('symlink', step.target, path);
    case 'unlink': return change('unlink', path);
    case 'rmdir': return change('rmdir', path);
    case 'chmod': return change('setAttributes', path, { mode: octal(step.mode) });
    case 'utimes': return change('setAttributes', path, { mtimeMs: step.mtime_us / 1000 });
    case 'snapshot': return client.changeVolume('snapshot', 'DATA', step.label);
    case 'create-pfs': return client.changeVolume('createPfs', step.label);
    case 'delete-pfs': return client.changeVolume('deletePfs', step.label);
    case 'rename-pfs': return client.changeVolume('renamePfs', step.label, step.new);
    case 'bulkfree': return client.changeVolume('freeUnused');
    case 'sync': return client.sync();
    default: throw new Error(`unknown step ${step.do}`);
  }
}

/** Makes a volume called `name` and runs every step over it. */
export async function runScript(script, name) {
  const client = new Client();
  await client.localCreate({ name, label: 'DATA', size: VOLUME_BYTES });
  const numbered = (step, path, number) => (step.count === undefined ? path : path?.replace('#', String(number)));
  for (const step of script.steps) {
    for (let number = 0; number < (step.count ?? 1); number += 1) {
      const outcome = await run(client, step, numbered(step, step.path, number), numbered(step, step.new, number), number).then(
        () => null,
        (error) => error,
      );
      if ((outcome?.code ?? null) !== (step.error ?? null)) {
        throw new Error(`${JSON.stringify(step)} (${number}): ${outcome?.code} ${outcome?.message}`);
      }
    }
  }
  await client.localClose();
  client.close();
}
