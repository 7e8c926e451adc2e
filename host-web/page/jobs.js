// Downloads under way: a card each, with progress, a cancel button, and what became of it.

import { make } from './dom.js';
import { explain, isCancel } from './errors.js';
import * as format from './format.js';

/** How often the numbers on a card change at most: more is not readable. */
const REFRESH_MS = 100;

export class Jobs {
  #region;
  #announce;
  #running = [];

  constructor(region, announce) {
    this.#region = region;
    this.#announce = announce;
  }

  get running() {
    return this.#running.length;
  }

  /** Cancels the job that was started last. */
  cancelLast() {
    this.#running.at(-1)?.cancel();
    return this.#running.length > 0;
  }

  cancelAll() {
    for (const job of [...this.#running]) job.cancel();
  }

  /**
   * Runs `work(job)`; `job` has `signal`, `progress(done, total, text)` and `ask(label)`, a promise for
   * a click on a button of that name (a place to save to may only be asked for from a click).
   * `work` returns the sentence to end with, and maybe `{ text, problem: true }`.
   */
  async run(title, work) {
    const controller = new AbortController();
    const bar = make('progress', { max: 1 });
    bar.setAttribute('aria-label', title);
    const text = make('div', { className: 'job-text', textContent: 'Starting\u2026' });
    const buttons = make('div', { className: 'job-buttons' });
    const cancel = make('button', { type: 'button', textContent: 'Cancel', onclick: () => controller.abort() });
    buttons.append(cancel);
    const card = make('div', { className: 'job' }, make('div', { className: 'job-title', textContent: title }), bar, text, buttons);
    const job = { cancel: () => controller.abort() };
    this.#running.push(job);
    this.#region.append(card);
    this.#region.hidden = false;

    const began = performance.now();
    let shownAt = -Infinity;
    const handle = {
      signal: controller.signal,
      progress: (done, total, note = '') => {
        const now = performance.now();
        if (now - shownAt < REFRESH_MS && done < total) return;
        shownAt = now;
        if (total > 0) bar.value = done / total;
        else bar.removeAttribute('value');
        const rate = done / ((now - began) / 1000);
        const left = rate > 0 && total > done && now - began > 2000 ? `, ${format.duration((total - done) / rate)} left` : '';
        text.textContent = note || `${format.bytes(done)} of ${format.bytes(total)}${left}`;
      },
      ask: (label, explanation) =>
        new Promise((resolve, reject) => {
          text.textContent = explanation;
          const button = make('button', { type: 'button', className: 'primary', textContent: label });
          buttons.prepend(button);
          button.onclick = () => {
            button.remove();
            resolve();
          };
          controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
          button.focus();
        }),
    };

    let outcome;
    try {
      outcome = await work(handle);
      if (typeof outcome === 'string') outcome = { text: outcome };
    } catch (error) {
      if (isCancel(error)) {
        outcome = { text: 'Cancelled', gone: true };
      } else {
        const { title: what, advice } = explain(error);
        outcome = { text: `${what} ${advice}`, problem: true };
      }
    }
    this.#running.splice(this.#running.indexOf(job), 1);
    this.#announce(`${title}: ${outcome.text}`);
    const close = () => {
      card.remove();
      this.#region.hidden = this.#region.childElementCount === 0;
    };
    if (outcome.gone) {
      close();
      return;
    }
    bar.remove();
    text.textContent = outcome.text;
    card.classList.toggle('failed', Boolean(outcome.problem));
    cancel.textContent = 'Close';
    cancel.onclick = close;
    // Only what went well makes room by itself, and only for the next one: nothing vanishes while it is read.
    for (const done of this.#region.querySelectorAll('.job.done')) if (done !== card) done.remove();
    if (!outcome.problem) card.classList.add('done');
  }
}
