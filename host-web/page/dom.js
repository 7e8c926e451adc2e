// Making elements.

/** An element with these properties and children. */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** An icon out of the sprite in index.html. What it means must stand in text beside it. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

const ICONS = { dir: 'folder', file: 'file', symlink: 'link' };

/** The icon of a directory entry. */
export const iconOf = (entry) => icon(entry.error ? 'damaged' : (ICONS[entry.type] ?? 'special'));

/** A definition list of [name, value] pairs; pairs without a value are left out. */
export function factList(pairs) {
  const list = make('dl', { className: 'facts' });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === '') continue;
    list.append(make('dt', { textContent: name }), make('dd', {}, value));
  }
  return list;
}
