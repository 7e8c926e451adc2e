// The dialog that tells what a volume is and which file systems are in it.

import { factList, make } from './dom.js';
import * as format from './format.js';
import { display, toHash } from './names.js';

/** @param {{facts: object, pfs: object[], files: File[], local?: object}} volume */
export function showFacts(dialog, { facts, pfs, files, local }) {
  dialog.querySelector('#facts-tools').hidden = !local;
  const link = ({ label }) => make('a', { href: toHash(label, '/'), textContent: display(label), onclick: () => dialog.close() });
  dialog.querySelector('.dialog-body').replaceChildren(
    factList([
      ['Size', `${format.bytes(facts.size)} (${format.exactBytes(facts.size)})`],
      ['Free', format.bytes(facts.free)],
      ['Kept in', local ? `this browser, ${format.bytes(local.stored)} stored` : null],
      ['Format version', String(facts.version)],
      ['Identity', facts.fsid],
      ['Transaction', local ? null : String(facts.mirrorTid)],
      ['Volumes', String(facts.volumes.length)],
    ]),
    ...(local ? [] : table('Files', ['File', 'Volume', 'Size', 'Header used'], facts.volumes.map((each) => [
      display(files[each.device]?.name ?? ''), String(each.volume), format.bytes(each.size), `copy ${each.header}`,
    ]))),
    ...table('File systems and snapshots', ['Label', 'Kind', 'Made', 'Data'], pfs.map((each) => [
      link(each), each.snapshot ? 'snapshot' : each.type, format.date(each.createdMs), format.bytes(each.bytes),
    ])),
  );
  dialog.showModal();
}

function table(title, heads, rows) {
  const frame = make('div', { className: 'table-frame', tabIndex: 0 }, make('table', {},
    make('thead', {}, make('tr', {}, ...heads.map((text) => make('th', { scope: 'col', textContent: text })))),
    make('tbody', {}, ...rows.map((cells) => make('tr', {}, ...cells.map((cell) => make('td', {}, cell))))),
  ));
  // In a narrow window it scrolls, and must be reachable for that.
  frame.setAttribute('role', 'group');
  frame.setAttribute('aria-label', title);
  return [make('h3', { textContent: title }), frame];
}
