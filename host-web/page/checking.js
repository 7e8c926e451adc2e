// The dialog that runs a check: progress, findings as they turn up, cancel.

import { explain, isCancel } from './errors.js';
import * as format from './format.js';
import { display } from './names.js';

/** Findings listed; a badly damaged volume has more than anybody reads. All are counted. */
const LISTED = 1000;

const WORDS = { fatal: 'Damage', repairable: 'Repairable', information: 'Note' };

export class CheckDialog {
  #dialog;
  #part;
  #controller = null;
  #client;
  #files;
  #announce;
  #listed = 0;

  constructor(dialog, announce) {
    this.#dialog = dialog;
    this.#announce = announce;
    this.#part = (name) => dialog.querySelector(`#check-${name}`);
    this.#part('start').addEventListener('click', () => this.#run());
    this.#part('stop').addEventListener('click', () => this.#controller?.abort());
    this.#part('close').addEventListener('click', () => dialog.close());
    // Escape stops what is running; only the next one closes.
    dialog.addEventListener('cancel', (event) => {
      if (this.#controller) {
        event.preventDefault();
        this.#controller.abort();
      }
    });
    dialog.addEventListener('close', () => this.#controller?.abort());
  }

  open({ client, files }) {
    if (client !== this.#client) this.#reset();
    this.#client = client;
    this.#files = files;
    this.#dialog.showModal();
    this.#part('start').focus();
  }

  #reset() {
    this.#listed = 0;
    this.#part('findings').replaceChildren();
    this.#part('findings').hidden = true;
    this.#part('progress').hidden = true;
    this.#part('text').textContent = 'Everything is read and checked: check codes, folders, names, links and the map of free space. Nothing is changed.';
  }

  #running(controller) {
    this.#controller = controller;
    const running = controller !== null;
    this.#part('stop').hidden = !running;
    this.#part('start').hidden = running;
    this.#part('close').disabled = running;
    this.#part('start').textContent = 'Start again';
    this.#dialog.setAttribute('aria-busy', String(running));
    this.#part(running ? 'stop' : 'close').focus();
  }

  async #run() {
    this.#reset();
    const controller = new AbortController();
    this.#running(controller);
    const bar = this.#part('bar');
    bar.removeAttribute('value');
    this.#part('progress').hidden = false;
    this.#part('text').textContent = 'Checking\u2026';
    this.#part('numbers').textContent = '';
    const text = await this.#client
      .check({
        signal: controller.signal,
        onProgress: (progress) => {
          if (progress.total > 0) bar.value = Math.min(1, progress.done / progress.total);
          this.#part('numbers').textContent = numbers(progress);
          for (const finding of progress.fresh) this.#add(finding);
        },
      })
      .then(
        (report) => {
          if (!report.stopped) bar.value = 1;
          this.#part('numbers').textContent = numbers(report);
          for (const finding of report.fresh) this.#add(finding);
          return verdict(report);
        },
        (error) => {
          if (isCancel(error)) return 'Cancelled.';
          const { title, advice } = explain(error, this.#files);
          return `${title} ${advice}`;
        },
      );
    this.#running(null);
    this.#part('text').textContent = text;
    this.#announce(text);
  }

  #add({ grade, message, pfs, ino, path }) {
    this.#listed += 1;
    const list = this.#part('findings');
    list.hidden = false;
    if (this.#listed > LISTED) {
      if (this.#listed === LISTED + 1) {
        const more = document.createElement('li');
        more.textContent = `Only the first ${format.count(LISTED, 'finding')} are listed.`;
        list.append(more);
      }
      return;
    }
    const item = document.createElement('li');
    const word = document.createElement('span');
    word.className = `grade grade-${grade}`;
    word.textContent = WORDS[grade] ?? grade;
    item.append(word, message);
    const about = path ?? (ino === null ? null : `inode ${ino}`);
    if (about !== null) {
      const where = document.createElement('span');
      where.className = 'place';
      where.textContent = `${display(pfs ?? '')}: ${display(about)}`;
      item.append(where);
    }
    list.append(item);
  }
}

function numbers({ blocks, bytes, fatal, repairable, information }) {
  const parts = [`${format.count(blocks, 'block')}, ${format.bytes(bytes)}`];
  parts.push(fatal ? `${format.count(fatal, 'damaged place')}` : 'no damage');
  if (repairable) parts.push(`${format.count(repairable, 'repairable fault')}`);
  if (information) parts.push(format.count(information, 'note'));
  return parts.join(' \u00b7 ');
}

function verdict({ fatal, repairable, stopped }) {
  if (stopped) return 'Cancelled before the end; what was found until then is listed.';
  if (fatal) return `The volume is damaged: ${format.count(fatal, 'damaged place')}. Copy out what can still be read.`;
  if (repairable) return `All data can be read; ${format.count(repairable, 'fault')} can be repaired.`;
  return 'The volume is intact.';
}
