// The list of local volumes on the start page: open, new, import, delete.

import { make } from './dom.js';
import { explain } from './errors.js';
import * as format from './format.js';
import { display } from './names.js';

const GIB = 1024 ** 3;
const SIZES = [GIB / 16, GIB / 4, GIB, 4 * GIB, 16 * GIB, 64 * GIB];

const $ = (id) => document.getElementById(id);

export class LocalVolumes {
  #handlers;

  /**
   * @param {object} handlers  client(): one to ask for the list; ask: the dialog; onOpen(id, name);
   *   onCreate(options): a promise, rejected with the reason to show; onImport(file)
   */
  constructor(handlers) {
    this.#handlers = handlers;
    for (const size of SIZES) {
      const option = make('option', { value: String(size), textContent: format.bytes(size).replace('.00', '').replace('.0', '') });
      option.selected = size === GIB;
      $('new-volume-size').append(option);
    }
    $('local-new').addEventListener('click', () => this.#askNew());
    $('new-volume-cancel').addEventListener('click', () => $('new-volume').close());
    $('new-volume-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#create();
    });
    $('local-import').addEventListener('click', () => $('import-input').click());
    $('import-input').addEventListener('change', () => {
      const [file] = $('import-input').files;
      $('import-input').value = '';
      if (file) handlers.onImport(file);
    });
  }

  /** Reads the list anew. */
  async refresh() {
    let volumes = [];
    try {
      volumes = await this.#handlers.client().localList();
    } catch (error) {
      // Some browsers have no storage in a private window.
      $('local-empty').textContent = `This browser keeps nothing for this page: ${error.message}.`;
    }
    $('local-list').replaceChildren(...volumes.map((volume) => this.#item(volume)));
    $('local-list').hidden = volumes.length === 0;
    $('local-empty').hidden = volumes.length > 0;
    await this.#showSpace(volumes.length > 0);
  }

  async #showSpace(hasVolumes) {
    const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.().catch(() => null)) ?? {};
    const persisted = (await navigator.storage?.persisted?.().catch(() => false)) ?? false;
    const room = quota > 0 ? `The browser gives this site ${format.bytes(Math.max(0, quota - usage))} more.` : '';
    const advice = hasVolumes && !persisted ? ' It may remove local volumes when the disk runs low: export what matters.' : '';
    $('local-space').textContent = room + advice;
  }

  #item({ id, name, size, stored, createdMs, ready, inUse }) {
    const shown = display(name);
    const state = [format.bytes(size), `${format.bytes(stored)} stored`, `made ${format.date(createdMs)}`];
    if (!ready) state.splice(0, 3, 'not complete: making it was cut short');
    else if (inUse) state.push('open in another tab');
    const open = make('button', { type: 'button', onclick: () => this.#handlers.onOpen(id, name) }, 'Open', make('span', { className: 'hidden-text', textContent: ` ${shown}` }));
    const remove = make('button', { type: 'button', onclick: () => this.#askDelete(id, name, stored) }, 'Delete\u2026', make('span', { className: 'hidden-text', textContent: ` ${shown}` }));
    return make('li', {}, make('div', { className: 'kept' }, make('strong', { textContent: shown }), make('span', { textContent: state.join(' \u00b7 ') })), ...(ready ? [open] : []), remove);
  }

  #askNew() {
    $('new-volume-problem').hidden = true;
    $('new-volume').showModal();
    $('new-volume-name').focus();
    $('new-volume-name').select();
  }

  async #create() {
    const button = $('new-volume-make');
    if (button.disabled) return;
    button.disabled = true;
    const label = $('new-volume-name').value.trim();
    try {
      await this.#handlers.onCreate({
        name: label,
        label,
        size: Number($('new-volume-size').value),
        compression: $('new-volume-compression').value,
      });
      $('new-volume').close();
    } catch (error) {
      const { title, advice } = explain(error);
      $('new-volume-problem').replaceChildren(make('strong', { textContent: title }), advice);
      $('new-volume-problem').hidden = false;
      $('new-volume-name').focus();
    } finally {
      button.disabled = false;
    }
  }

  async #askDelete(id, name, stored) {
    const question = {
      title: `Delete \u201c${display(name)}\u201d?`,
      text: `The volume and everything in it (${format.bytes(stored)}), snapshots too, will be gone. This cannot be undone. To keep a copy, open it and export it first.`,
      choices: [{ label: 'Delete the volume', value: true, isDefault: true, danger: true }],
    };
    const gone = await this.#handlers.ask.open(question, async () => {
      await this.#handlers.client().localDelete(id);
      return true;
    });
    if (!gone) return;
    await this.refresh();
    $('local-new').focus();
  }
}
