/* The document and the open shadow roots in it: where to look, and how to hear of what changes there. */

/** What shows the block; such an element has a shadow root of our own. */
export const BLOCKS = "hit-counter,[data-hitcounter=block]";
export const PLACES = "hit-counter,[data-hitcounter]";

/** @type {(Document | ShadowRoot)[]} */
let roots = [];
/** @type {MutationObserver} */
let observer;

/** @param {Document | ShadowRoot} root */
function enter(root) {
  roots.push(root);
  observer.observe(root, { childList: true, subtree: true, characterData: true, attributes: true });
  for (const element of root.querySelectorAll("*")) {
    if (element.shadowRoot && !element.matches(BLOCKS)) enter(element.shadowRoot);
  }
}

/** Find the shadow roots of the page; what is observed already is not observed twice. */
export function findRoots() {
  roots = [];
  enter(document);
}

/** Tell of changes, but not of attributes of elements that are nothing to us. @param {() => void} onChange */
export function startWatching(onChange) {
  observer = new MutationObserver((records) => {
    const isOurs = ({ type, target }) => type !== "attributes" || target.matches(PLACES);
    if (records.some(isOurs)) onChange();
  });
  const { attachShadow } = Element.prototype;
  Element.prototype.attachShadow = function (init) {
    onChange();
    return attachShadow.call(this, init);
  };
}

/** Find elements in the whole page, the document's first. @param {string} selector @returns {any[]} */
export const findAll = (selector) => roots.flatMap((root) => [...root.querySelectorAll(selector)]);
