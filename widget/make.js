/* Elements, and what we remember of the page's. */

/**
 * Make an element.
 *
 * @param {string} name
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {any}
 */
export function make(name, attributes = {}, ...children) {
  const element = /svg|path/.test(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  element.append(...children);
  return element;
}

/** @type {WeakMap<Element, any>} */
const memories = new WeakMap();

/** Return what we remember of an element. @param {Element} element */
export function memoryOf(element) {
  if (!memories.has(element)) memories.set(element, {});
  return memories.get(element);
}
