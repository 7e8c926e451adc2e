// The folder list: an ARIA grid whose rows exist only where they can be seen.
//
// One tab stop (roving tabindex): the active row. Rows are kept by name, so that a folder that is still
// being read can grow and be sorted again without taking the focus from anybody.

import { iconOf, make } from './dom.js';
import * as format from './format.js';
import { display } from './names.js';

/** Rows drawn above and below the visible part, so that a quick scroll does not show a gap. */
const OVERSCAN = 12;
const TYPE_AHEAD_MS = 800;

export class FileList {
  #grid;
  #body;
  #spacer;
  #message;
  #handlers;
  #entries = [];
  #rows = new Map();
  #active = -1;
  #anchor = -1;
  #selected = new Set();
  #sort = { column: 'name', descending: false };
  #rowHeight = 0;
  #typed = { text: '', at: -Infinity };

  /**
   * @param {HTMLElement} grid  the element with role=grid from index.html
   * @param {object} handlers   onOpen(entry), onUp(), onChange(active, selected), onRename(), onDelete(),
   *   openOnClick()
   */
  constructor(grid, handlers) {
    this.#grid = grid;
    this.#handlers = handlers;
    this.#body = grid.querySelector('.list-body');
    this.#spacer = grid.querySelector('.list-spacer');
    this.#message = grid.querySelector('.list-message');
    for (const button of grid.querySelectorAll('[data-sort]')) {
      button.addEventListener('click', () => this.#sortBy(button.dataset.sort));
    }
    this.#body.addEventListener('scroll', () => this.#render());
    this.#body.addEventListener('keydown', (event) => this.#keydown(event));
    this.#body.addEventListener('click', (event) => this.#click(event));
    this.#body.addEventListener('dblclick', (event) => {
      const index = this.#indexOf(event.target);
      if (index >= 0) this.#handlers.onOpen(this.#entries[index]);
    });
    this.#body.addEventListener('focusin', (event) => {
      const index = this.#indexOf(event.target);
      if (index >= 0 && index !== this.#active) this.#activate(index);
    });
    new ResizeObserver(() => {
      this.#measure();
      this.#render();
    }).observe(this.#body);
    this.#showSort();
  }

  get entries() {
    return this.#entries;
  }

  get active() {
    return this.#entries[this.#active] ?? null;
  }

  /** The selected entries in the order of the list. */
  get selected() {
    return this.#entries.filter((entry) => this.#selected.has(entry.name));
  }

  /** What to give to `show` to come back to this view. */
  get place() {
    return { name: this.active?.name ?? null, scrollTop: this.#body.scrollTop };
  }

  /** Another folder. */
  show(entries, place = null) {
    this.#selected.clear();
    this.#active = this.#anchor = -1;
    this.#typed = { text: '', at: -Infinity };
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#take(entries, place?.name ?? null);
    if (this.#active < 0 && this.#entries.length > 0) this.#active = 0;
    this.#render();
    this.#body.scrollTop = place?.scrollTop ?? 0;
    if (place?.name != null && place.scrollTop === undefined) this.#reveal(this.#active);
    this.#render();
    this.#changed();
  }

  /** The same folder with more in it. */
  update(entries) {
    const name = this.active?.name ?? null;
    this.#take(entries, name);
    if (this.#active < 0 && this.#entries.length > 0) this.#active = 0;
    this.#render();
    this.#changed();
  }

  /** Makes the entry the active and only selected one. */
  select(name) {
    const index = this.#entries.findIndex((entry) => entry.name === name);
    if (index < 0) return false;
    this.#moveTo(index, {});
    return true;
  }

  clearSelection() {
    this.#selected.clear();
    this.#refresh();
    this.#changed();
  }

  /** A text in place of rows (or below them), with an optional button. Empty arguments remove it. */
  say(text = '', action = null) {
    this.#message.replaceChildren();
    this.#message.hidden = text === '';
    if (text) this.#message.append(make('p', { textContent: text }));
    if (action) this.#message.append(make('button', { type: 'button', textContent: action.label, onclick: action.run }));
  }

  set busy(busy) {
    this.#grid.setAttribute('aria-busy', String(busy));
  }

  focus() {
    const row = this.#rows.get(this.active?.name);
    if (row) row.focus({ preventScroll: true });
    else this.#body.focus({ preventScroll: true });
  }

  #take(entries, activeName) {
    this.#entries = entries.toSorted(format.comparison(this.#sort));
    this.#active = activeName === null ? -1 : this.#entries.findIndex((entry) => entry.name === activeName);
    this.#anchor = this.#active;
    this.#grid.setAttribute('aria-rowcount', String(this.#entries.length + 1));
    this.#measure();
  }

  // --- drawing -------------------------------------------------------------------------------------

  #measure() {
    const probe = this.#createRow({ name: 'x', type: 'file', size: 0, mtimeMs: 0 });
    probe.style.visibility = 'hidden';
    this.#spacer.append(probe);
    this.#rowHeight = probe.offsetHeight;
    probe.remove();
    this.#spacer.style.height = `${this.#rowHeight * this.#entries.length}px`;
  }

  #render() {
    if (this.#rowHeight === 0) return;
    const first = Math.max(0, Math.floor(this.#body.scrollTop / this.#rowHeight) - OVERSCAN);
    const last = Math.min(
      this.#entries.length - 1,
      Math.ceil((this.#body.scrollTop + this.#body.clientHeight) / this.#rowHeight) + OVERSCAN,
    );
    const wanted = new Map();
    for (let index = first; index <= last; index += 1) wanted.set(this.#entries[index].name, index);
    // The active row holds the tab stop and maybe the focus: it exists wherever the list is scrolled to.
    if (this.active) wanted.set(this.active.name, this.#active);
    for (const [name, row] of this.#rows) {
      if (!wanted.has(name)) {
        row.remove();
        this.#rows.delete(name);
      }
    }
    for (const [name, index] of wanted) {
      let row = this.#rows.get(name);
      if (!row) {
        row = this.#createRow(this.#entries[index]);
        row.dataset.name = name;
        this.#rows.set(name, row);
        this.#spacer.append(row);
      }
      row.style.transform = `translateY(${index * this.#rowHeight}px)`;
      row.setAttribute('aria-rowindex', String(index + 2));
      row.classList.toggle('odd', index % 2 === 1);
    }
    this.#refresh();
  }

  #refresh() {
    const activeName = this.active?.name;
    for (const [name, row] of this.#rows) {
      row.tabIndex = name === activeName ? 0 : -1;
      row.setAttribute('aria-selected', String(this.#selected.has(name)));
    }
    // With no row to carry the tab stop (an empty folder), the body does, so that Backspace works there.
    this.#body.tabIndex = this.active ? -1 : 0;
  }

  #createRow(entry) {
    const cell = (name, ...children) => {
      const node = make('div', { className: `cell cell-${name}` }, ...children);
      node.setAttribute('role', 'gridcell');
      return node;
    };
    const shown = display(entry.name);
    const name = make('span', { className: 'label', textContent: shown, title: shown });
    const sized = entry.type === 'file' && !entry.error;
    const row = make(
      'div',
      { className: 'row' },
      cell('name', iconOf(entry), name),
      cell(sized ? 'size' : 'size none', sized ? format.bytes(entry.size) : '\u2013'),
      cell('modified', entry.error ? '\u2013' : format.date(entry.mtimeMs)),
      cell('type', format.kind(entry)),
    );
    row.setAttribute('role', 'row');
    return row;
  }

  // --- sorting -------------------------------------------------------------------------------------

  #sortBy(column) {
    const same = this.#sort.column === column;
    // The first click on a date or a size shows what people look for there: the newest, the largest.
    const descending = same ? !this.#sort.descending : column === 'size' || column === 'modified';
    this.#sort = { column, descending };
    const name = this.active?.name ?? null;
    this.#take(this.#entries, name);
    this.#showSort();
    this.#render();
    if (this.#active >= 0) this.#reveal(this.#active);
    this.#handlers.onSort?.(this.#sort);
  }

  #showSort() {
    for (const button of this.#grid.querySelectorAll('[data-sort]')) {
      const header = button.closest('[role=columnheader]');
      const current = button.dataset.sort === this.#sort.column;
      header.setAttribute('aria-sort', current ? (this.#sort.descending ? 'descending' : 'ascending') : 'none');
    }
  }

  // --- selection and keys --------------------------------------------------------------------------

  #indexOf(target) {
    const name = target.closest?.('.row')?.dataset.name;
    return name === undefined ? -1 : this.#entries.findIndex((entry) => entry.name === name);
  }

  #changed() {
    this.#handlers.onChange(this.active, this.selected);
  }

  #activate(index) {
    this.#active = index;
    this.#render();
  }

  #reveal(index) {
    const top = index * this.#rowHeight;
    const bottom = top + this.#rowHeight;
    if (top < this.#body.scrollTop) this.#body.scrollTop = top;
    else if (bottom > this.#body.scrollTop + this.#body.clientHeight) {
      this.#body.scrollTop = bottom - this.#body.clientHeight;
    }
  }

  #moveTo(index, { extend = false, toggle = false, keep = false }) {
    if (this.#entries.length === 0) return;
    index = Math.max(0, Math.min(this.#entries.length - 1, index));
    const name = this.#entries[index].name;
    if (extend) {
      if (this.#anchor < 0) this.#anchor = Math.max(0, this.#active);
      const [from, to] = [this.#anchor, index].sort((a, b) => a - b);
      this.#selected = new Set(this.#entries.slice(from, to + 1).map((entry) => entry.name));
    } else {
      if (toggle) {
        if (!this.#selected.delete(name)) this.#selected.add(name);
      } else if (!keep) {
        this.#selected = new Set([name]);
      }
      this.#anchor = index;
    }
    const focused = this.#body.contains(document.activeElement);
    this.#activate(index);
    this.#reveal(index);
    this.#render();
    if (focused) this.focus();
    this.#changed();
  }

  #click(event) {
    const index = this.#indexOf(event.target);
    if (index < 0) return;
    const toggle = event.ctrlKey || event.metaKey;
    this.#moveTo(index, { extend: event.shiftKey, toggle });
    this.focus();
    if (!toggle && !event.shiftKey && this.#handlers.openOnClick(event)) this.#handlers.onOpen(this.#entries[index]);
  }

  #keydown(event) {
    const command = event.ctrlKey || event.metaKey;
    if (event.altKey) {
      if (event.key !== 'ArrowUp') return;
      this.#handlers.onUp();
    } else if (command && event.key.toLowerCase() === 'a') {
      this.#selected = new Set(this.#entries.map((entry) => entry.name));
      this.#refresh();
      this.#changed();
    } else if (!this.#navigate(event, command)) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #navigate(event, command) {
    const options = { extend: event.shiftKey, keep: command };
    const page = Math.max(1, Math.floor(this.#body.clientHeight / this.#rowHeight) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      this.#moveTo(this.#active + steps[event.key], options);
    } else if (event.key === 'Enter') {
      if (this.active) this.#handlers.onOpen(this.active);
    } else if (event.key === 'Backspace') {
      this.#handlers.onUp();
    } else if (event.key === 'F2') {
      this.#handlers.onRename?.();
    } else if (event.key === 'Delete') {
      this.#handlers.onDelete?.();
    } else if (event.key === 'Escape') {
      if (this.#selected.size === 0) return false;
      this.clearSelection();
    } else if (event.key === ' ' && !this.#typing(event)) {
      if (this.active) this.#moveTo(this.#active, { toggle: true, extend: event.shiftKey });
    } else if (event.key.length === 1 && !command) {
      this.#typeAhead(event);
    } else {
      return false;
    }
    return true;
  }

  #typing(event) {
    return this.#typed.text !== '' && event.timeStamp - this.#typed.at < TYPE_AHEAD_MS;
  }

  #typeAhead(event) {
    const text = (this.#typing(event) ? this.#typed.text : '') + event.key.toLowerCase();
    this.#typed = { text, at: event.timeStamp };
    // The same letter again and again walks through the names that begin with it.
    const repeated = [...text].every((char) => char === text[0]);
    const prefix = repeated ? text[0] : text;
    const from = repeated ? this.#active + 1 : Math.max(0, this.#active);
    for (let step = 0; step < this.#entries.length; step += 1) {
      const index = (from + step) % this.#entries.length;
      if (display(this.#entries[index].name).toLowerCase().startsWith(prefix)) {
        this.#moveTo(index, {});
        return;
      }
    }
  }
}
