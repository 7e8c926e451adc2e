// The folder tree: role=tree with a flat list of items (aria-level, aria-setsize, aria-posinset), one tab
// stop, children read when a folder is first expanded.

import { icon } from './dom.js';
import { ancestors, display, join } from './names.js';

/** Subfolders shown of one folder before a "more" item stands for the rest. */
const PIECE = 500;
const TYPE_AHEAD_MS = 800;

export class FolderTree {
  #tree;
  #handlers;
  #root = null;
  #current = null;
  #focused = null;
  #typed = { text: '', at: -Infinity };
  #generation = 0;

  /**
   * @param {HTMLElement} tree  the element with role=tree
   * @param {object} handlers   load(path) -> Promise of names of the subfolders, sorted; onOpen(path)
   */
  constructor(tree, handlers) {
    this.#tree = tree;
    this.#handlers = handlers;
    tree.addEventListener('keydown', (event) => this.#keydown(event));
    tree.addEventListener('click', (event) => this.#click(event));
    tree.addEventListener('focusin', (event) => this.#setFocused(event.target.closest('.node')?.node ?? null));
  }

  /** A new root; nothing else of it is known yet. */
  reset(label) {
    this.#generation += 1;
    this.#root = this.#createNode('/', label, 1, null);
    this.#root.size = this.#root.position = 1;
    this.#current = null;
    this.#focused = this.#root;
    this.#tree.replaceChildren(this.#element(this.#root));
  }

  /** Marks the folder that the list shows, expanding what leads to it. */
  async reveal(path) {
    const generation = this.#generation;
    let node = this.#root;
    const steps = ancestors(path).slice(1);
    for (const step of steps) {
      if (!(await this.#expand(node)) || generation !== this.#generation) break;
      let child = node.children.find((each) => each.path === step);
      if (!child) break;
      // It may stand behind "more": everything up to it has to be shown.
      while (!child.element) this.#showMore(node);
      node = child;
    }
    if (generation !== this.#generation) return;
    if (path === '/') this.#expand(node);
    this.#current?.element?.setAttribute('aria-selected', 'false');
    this.#current = node;
    node.element.setAttribute('aria-selected', 'true');
    if (!this.#tree.contains(document.activeElement)) {
      this.#setFocused(node);
      this.#scrollTo(node);
    }
  }

  /** Forgets what is in a folder, and reads it anew if that is shown. */
  async refresh(path) {
    let node = this.#root;
    for (const step of ancestors(path).slice(1)) {
      node = node?.children?.find((each) => each.path === step);
    }
    if (!node?.children) return;
    const wasExpanded = node.expanded;
    const focused = this.#isInside(this.#focused, node) ? this.#focused.path : null;
    this.#collapse(node);
    node.children = node.loading = null;
    if (!node.element) return;
    node.element.setAttribute('aria-expanded', 'false');
    if (!wasExpanded) return;
    await this.#expand(node);
    const again = node.children?.find((each) => each.path === focused);
    if (again?.element) this.#setFocused(again);
  }

  #createNode(path, name, level, parent) {
    return { path, name, level, parent, children: null, shown: 0, expanded: false, loading: null, element: null };
  }

  #element(node) {
    const item = document.createElement('div');
    item.className = 'node';
    item.node = node;
    item.tabIndex = node === this.#focused ? 0 : -1;
    item.setAttribute('role', 'treeitem');
    item.setAttribute('aria-level', String(node.level));
    item.setAttribute('aria-setsize', String(node.size));
    item.setAttribute('aria-posinset', String(node.position));
    item.setAttribute('aria-selected', 'false');
    // Until it was read nobody knows whether a folder has subfolders: it is offered as expandable.
    item.setAttribute('aria-expanded', 'false');
    item.style.setProperty('--level', String(node.level - 1));
    const twisty = document.createElement('span');
    twisty.className = 'twisty';
    twisty.append(icon('twisty'));
    const label = document.createElement('span');
    label.className = 'label';
    label.textContent = label.title = display(node.name);
    item.append(twisty, icon(node.level === 1 ? 'disk' : 'folder'), label);
    node.element = item;
    return item;
  }

  #moreElement(node) {
    const item = document.createElement('div');
    item.className = 'node more';
    item.node = { path: null, parent: node, level: node.level + 1, element: item, more: true };
    item.tabIndex = -1;
    item.setAttribute('role', 'treeitem');
    item.setAttribute('aria-level', String(node.level + 1));
    item.setAttribute('aria-selected', 'false');
    item.style.setProperty('--level', String(node.level));
    item.textContent = `${(node.children.length - node.shown).toLocaleString()} more\u2026`;
    node.more = item;
    return item;
  }

  async #expand(node) {
    if (node.expanded) return true;
    const generation = this.#generation;
    if (!node.children) {
      node.element.setAttribute('aria-busy', 'true');
      try {
        node.loading ??= this.#handlers.load(node.path);
        const names = await node.loading;
        if (generation !== this.#generation) return false;
        node.children ??= names.map((name, index) =>
          Object.assign(this.#createNode(join(node.path, name), name, node.level + 1, node), {
            size: names.length,
            position: index + 1,
          }),
        );
      } catch {
        // The list shows what is wrong with the folder when it is opened; the tree just stays shut.
        node.loading = null;
        return false;
      } finally {
        node.element.removeAttribute('aria-busy');
      }
    }
    if (node.expanded) return true;
    if (node.children.length === 0) {
      node.element.removeAttribute('aria-expanded');
      return true;
    }
    node.expanded = true;
    node.element.setAttribute('aria-expanded', 'true');
    node.shown = 0;
    this.#showMore(node);
    return true;
  }

  #showMore(node) {
    const fresh = node.children.slice(node.shown, node.shown + PIECE);
    const before = node.more ?? this.#lastOf(node);
    const elements = fresh.map((child) => this.#element(child));
    node.shown += fresh.length;
    if (node.shown < node.children.length) {
      const old = node.more;
      elements.push(this.#moreElement(node));
      before.after(...elements);
      old?.remove();
    } else {
      before.after(...elements);
      node.more?.remove();
      node.more = null;
    }
    return fresh[0];
  }

  /** The last item that belongs to `node`: itself, or the end of its subtree. */
  #lastOf(node) {
    let last = node.element;
    while (last.nextElementSibling && last.nextElementSibling.node.level > node.level) last = last.nextElementSibling;
    return last;
  }

  #collapse(node) {
    if (!node.expanded) return;
    const inside = this.#isInside(this.#focused, node);
    const forget = (parent) => {
      for (const child of parent.children ?? []) {
        child.element = null;
        child.expanded = false;
        child.shown = 0;
        child.more = null;
        forget(child);
      }
    };
    while (node.element.nextElementSibling?.node.level > node.level) node.element.nextElementSibling.remove();
    forget(node);
    node.more = null;
    node.expanded = false;
    node.element.setAttribute('aria-expanded', 'false');
    if (inside) this.#focus(node);
    if (this.#current && !this.#current.element) this.#current = null;
  }

  #isInside(node, ancestor) {
    for (let each = node?.parent; each; each = each.parent) if (each === ancestor) return true;
    return false;
  }

  #setFocused(node) {
    if (!node || node === this.#focused) return;
    if (this.#focused?.element) this.#focused.element.tabIndex = -1;
    this.#focused = node;
    node.element.tabIndex = 0;
  }

  #focus(node) {
    this.#setFocused(node);
    node.element.focus({ preventScroll: true });
    this.#scrollTo(node);
  }

  /** An item is as wide as the whole tree: what has to come into view is its name, and first its start. */
  #scrollTo(node) {
    for (const part of [...node.element.children].reverse()) {
      part.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    }
  }

  #activate(node) {
    if (node.more) this.#focus(this.#showMore(node.parent));
    else this.#handlers.onOpen(node.path);
  }

  #click(event) {
    const node = event.target.closest('.node')?.node;
    if (!node) return;
    if (event.target.closest('.twisty')) {
      if (node.expanded) this.#collapse(node);
      else this.#expand(node);
    } else {
      this.#activate(node);
    }
  }

  #keydown(event) {
    const node = this.#focused;
    if (!node || event.altKey || event.ctrlKey || event.metaKey) return;
    const item = node.element;
    const go = (element) => element && this.#focus(element.node);
    switch (event.key) {
      case 'ArrowDown':
        go(item.nextElementSibling);
        break;
      case 'ArrowUp':
        go(item.previousElementSibling);
        break;
      case 'Home':
        go(this.#tree.firstElementChild);
        break;
      case 'End':
        go(this.#tree.lastElementChild);
        break;
      case 'ArrowRight':
        if (node.expanded) go(item.nextElementSibling);
        else if (!node.more) this.#expand(node);
        break;
      case 'ArrowLeft':
        if (node.expanded) this.#collapse(node);
        else if (node.parent) this.#focus(node.parent);
        break;
      case 'Enter':
      case ' ':
        this.#activate(node);
        break;
      default:
        if (event.key.length !== 1) return;
        this.#typeAhead(event);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #typeAhead(event) {
    const going = event.timeStamp - this.#typed.at < TYPE_AHEAD_MS;
    const text = (going ? this.#typed.text : '') + event.key.toLowerCase();
    this.#typed = { text, at: event.timeStamp };
    const items = Array.from(this.#tree.children);
    const start = items.indexOf(this.#focused.element) + (text.length === 1 ? 1 : 0);
    for (let step = 0; step < items.length; step += 1) {
      const item = items[(start + step) % items.length];
      if (item.textContent.toLowerCase().startsWith(text)) {
        this.#focus(item.node);
        return;
      }
    }
  }
}

/** The names of the folders among entries, in the tree's order. */
export function folderNames(entries, compare) {
  return entries.filter((entry) => entry.type === 'dir').sort(compare).map((entry) => entry.name);
}
