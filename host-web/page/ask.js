// A dialog that asks: for a text, or for one of a few choices. What was decided is done while it is open, so
// that a refusal (the name is taken, say) stands beside what was typed.

import { make } from './dom.js';
import { explain, isCancel } from './errors.js';

export class Ask {
  #dialog;
  #part;
  #settle = null;
  #choices = [];
  #act = null;
  #busy = false;

  constructor(dialog) {
    this.#dialog = dialog;
    this.#part = (name) => dialog.querySelector(`#ask-${name}`);
    this.#part('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#choose(this.#choices.find((each) => each.isDefault));
    });
    dialog.addEventListener('cancel', (event) => {
      if (this.#busy) event.preventDefault();
    });
    dialog.addEventListener('close', () => {
      // The event comes late: another question may be open already.
      if (!dialog.open) this.#end(null);
    });
  }

  /**
   * @param {object} question  title; text; input: `{ label, value, select }`, `select` being how much of it
   *   is selected; choices: `[{ label, value, isDefault, danger }]` beside "Cancel"
   * @param {function} [act]  `act(text or value)` does it; what it throws is shown, and may be mended
   * @returns {Promise<any>} what `act` returned, or the value (or the text) itself; null if nothing is to happen
   */
  open({ title, text = '', input = null, choices }, act = (value) => value) {
    this.#end(null);
    this.#choices = choices;
    this.#act = act;
    this.#part('title').textContent = title;
    this.#part('text').textContent = text;
    this.#part('text').hidden = text === '';
    this.#part('problem').hidden = true;
    this.#part('field').hidden = input === null;
    const field = this.#part('input');
    field.required = input !== null;
    this.#part('label').textContent = input?.label ?? '';
    field.value = input?.value ?? '';
    const cancel = make('button', { type: 'button', textContent: 'Cancel', onclick: () => this.#dialog.close() });
    const buttons = choices.map((choice) =>
      make('button', {
        type: choice.isDefault ? 'submit' : 'button',
        className: choice.danger ? 'danger' : choice.isDefault ? 'primary' : '',
        textContent: choice.label,
        onclick: choice.isDefault ? null : () => this.#choose(choice),
      }),
    );
    this.#part('buttons').replaceChildren(cancel, ...buttons);
    this.#dialog.showModal();
    if (input) {
      field.focus();
      field.setSelectionRange(0, input.select ?? field.value.length);
    } else {
      // What cannot be undone is not what a hasty Enter does.
      (choices.some((each) => each.danger) ? cancel : buttons.at(-1)).focus();
    }
    return new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  async #choose(choice) {
    if (this.#busy) return;
    const field = this.#part('input');
    const value = this.#part('field').hidden ? choice.value : field.value;
    this.#setBusy(true);
    try {
      const result = await this.#act(value);
      this.#setBusy(false);
      this.#end(result);
    } catch (error) {
      this.#setBusy(false);
      if (isCancel(error)) return;
      const { title, advice } = explain(error);
      const problem = this.#part('problem');
      problem.replaceChildren(make('strong', { textContent: title }), advice);
      problem.hidden = false;
      if (!this.#part('field').hidden) field.focus();
    }
  }

  #setBusy(busy) {
    this.#busy = busy;
    this.#dialog.setAttribute('aria-busy', String(busy));
    for (const button of this.#part('buttons').children) button.disabled = busy;
  }

  #end(result) {
    const settle = this.#settle;
    this.#settle = null;
    if (this.#dialog.open) this.#dialog.close();
    settle?.(result);
  }
}
