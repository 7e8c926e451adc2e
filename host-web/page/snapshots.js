// The dialog with the snapshots of a file system: take one, look into one, delete one.

import { make } from './dom.js';
import { explain } from './errors.js';
import { checked } from './edit.js';
import * as format from './format.js';
import { display } from './names.js';

const $ = (id) => document.getElementById(id);
const two = (number) => String(number).padStart(2, '0');

/** A label that sorts by time: "DATA.2026-03-14.0926". */
function suggestion(label, taken) {
  const now = new Date();
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const stem = `${label}.${day}.${two(now.getHours())}${two(now.getMinutes())}`;
  for (let number = 1; ; number += 1) {
    const wanted = number === 1 ? stem : `${stem}-${number}`;
    if (!taken.includes(wanted)) return wanted;
  }
}

export class Snapshots {
  #handlers;
  #label = null;

  /**
   * @param {object} handlers  client(); pfs(): the list; ask: the dialog; announce(text); onChange(): a promise,
   *   after the list of file systems changed; onOpen(label)
   */
  constructor(handlers) {
    this.#handlers = handlers;
    $('snapshot-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#take();
    });
  }

  /** Shows the dialog for the file system `label`. */
  open(label) {
    this.#label = label;
    $('snapshots-about').textContent = `A snapshot keeps \u201c${display(label)}\u201d as it is now. It is made at once, and takes no room until something changes.`;
    $('snapshot-problem').hidden = true;
    this.#show();
    $('snapshots').showModal();
    $('snapshot-take').focus();
  }

  #show() {
    const all = this.#handlers.pfs();
    const snapshots = all.filter((each) => each.snapshot).sort((a, b) => b.createdMs - a.createdMs);
    $('snapshot-label').value = suggestion(this.#label, all.map((each) => each.label));
    $('snapshot-list').replaceChildren(...snapshots.map((each) => this.#item(each)));
    $('snapshot-list').hidden = snapshots.length === 0;
    $('snapshot-empty').hidden = snapshots.length > 0;
  }

  #item({ label, createdMs, bytes }) {
    const shown = display(label);
    const named = (text, onclick) => make('button', { type: 'button', onclick }, text, make('span', { className: 'hidden-text', textContent: ` ${shown}` }));
    return make('li', {},
      make('div', { className: 'kept' }, make('strong', { textContent: shown }), make('span', { textContent: `${format.date(createdMs)} \u00b7 ${format.bytes(bytes)} of data` })),
      named('Open', () => {
        $('snapshots').close();
        this.#handlers.onOpen(label);
      }),
      named('Delete\u2026', () => this.#delete(label)),
    );
  }

  async #take() {
    const label = $('snapshot-label').value.trim();
    $('snapshot-take').disabled = true;
    $('snapshot-problem').hidden = true;
    try {
      await this.#handlers.client().changeVolume('snapshot', this.#label, checked(label));
      await this.#handlers.onChange();
      this.#show();
      this.#handlers.announce(`Snapshot ${display(label)} taken`);
    } catch (error) {
      const { title, advice } = explain(error);
      $('snapshot-problem').replaceChildren(make('strong', { textContent: title }), advice);
      $('snapshot-problem').hidden = false;
    } finally {
      $('snapshot-take').disabled = false;
    }
  }

  async #delete(label) {
    const gone = await this.#handlers.ask.open(
      {
        title: `Delete the snapshot \u201c${display(label)}\u201d?`,
        text: 'What only it has will be gone. Its space comes back with \u201cFree up space\u201d under \u201cVolume\u201d.',
        choices: [{ label: 'Delete', value: true, isDefault: true, danger: true }],
      },
      async () => {
        await this.#handlers.client().changeVolume('deletePfs', label);
        return true;
      },
    );
    if (!gone) return;
    await this.#handlers.onChange();
    this.#show();
    $('snapshot-take').focus();
  }
}
