/* The document and the open shadow roots in it: where to look, and how to hear of what changes there. */
import { plan } from "./rounds.js";

/** What shows the block; such an element has a shadow root of our own. */
export const BLOCKS = "hit-counter,[data-hitcounter=block]";
export const PLACES = "hit-counter,[data-hitcounter]";

/**
 * Return the nearest place around an element, or itself, or null. A form's own methods may be its fields.
 *
 * @param {any} element
 */
export const placeOf = (element) => element && Element.prototype.closest.call(element, PLACES);

/** @type {(Document | ShadowRoot)[]} */
let roots = [];
/** @type {MutationObserver} */
let observer;

/** @param {Document | ShadowRoot} root */
function enter(root) {
  roots.push(root);
  observer.observe(root, { attributes: true, childList: true, characterData: true, subtree: true });
  for (const element of root.querySelectorAll("*")) {
    if (element.shadowRoot && !element.matches(BLOCKS)) enter(element.shadowRoot);
  }
}

/** Find the shadow roots of the page; what is observed already is not observed twice. */
export function findRoots() {
  roots = [];
  enter(document);
}

/** Pass over what has changed until the end of a round: it saw that, or made it. */
export const passOver = () => observer.takeRecords();

/** Look again after changes, but not of attributes of elements that are nothing to us. */
export function startWatching() {
  observer = new MutationObserver((records) => {
    const isOurs = ({ type, target }) => type !== "attributes" || placeOf(target) === target;
    if (records.some(isOurs)) plan();
  });
  const { attachShadow } = Element.prototype;
  Element.prototype.attachShadow = function (init) {
    if (!this.matches(BLOCKS)) plan();
    return attachShadow.call(this, init);
  };
}

/** Find elements in the whole page, the document's first. @param {string} selector @returns {any[]} */
export const findAll = (selector) => roots.flatMap((root) => [...root.querySelectorAll(selector)]);
