/* The blocks of tags: one for each tag that draws, as long as it stands in the page. */
import { memoryOf } from "./block.js";
import { said } from "./places.js";
import { findAll } from "./roots.js";
import { mayWrite } from "./rounds.js";

/** @typedef {import("./places.js").Tag} Tag */

const DRAWN = "data-drawn";
/** @type {WeakMap<Element, HTMLElement>} */
const byTag = new WeakMap();
/** @type {WeakMap<Element, Tag>} */
const byBlock = new WeakMap();
/** Tags that ran since the last task of ours. Whoever loads one may take it away at once; its block stays. */
export const justRan = /** @type {Set<Element>} */ (new Set());

/** Return the place that a block is drawn for: its tag, or itself. @param {HTMLElement} block */
export const placeOf = (block) => byBlock.get(block) || block;

/** Return the element that shows a place. @param {Element} place */
export const hostOf = (place) => byTag.get(place) || place;

/** @param {Tag} tag */
const isDrawing = (tag) =>
  said(tag, "site") && said(tag, "block") !== "off" && (said(tag, "target") || !tag.closest("head"));

/** Return whether a block is of a tag that is gone, or came with a copy of the page. @param {any} element */
function isLeft(element) {
  const tag = byBlock.get(element);
  if (tag) return !tag.isConnected;
  const isCopy = element.hasAttribute(DRAWN) || (element.hasAttribute("data-state") && !memoryOf(element).look);
  return isCopy && element.localName === "hit-counter" && !element.hasAttribute("site");
}

/** Give a tag its block: the one it has, one that was left, or a new one. @param {Tag} tag */
function provide(tag) {
  const mine = byTag.get(tag);
  if (mine && mine.isConnected) return;
  const target = said(tag, "target");
  let into;
  try {
    into = target && findAll(target)[0];
  } catch {
    // It is no selector.
  }
  if (target && !into) return;
  const left = [...(into ? into.children : [tag.nextElementSibling || tag])].find(isLeft);
  if (!left && mine && !mayWrite(memoryOf(mine), true)) return;
  const block = left || mine || document.createElement("hit-counter");
  byTag.set(tag, block);
  byBlock.set(block, tag);
  block.setAttribute(DRAWN, "");
  if (left) return;
  if (into) into.append(block);
  else tag.after(block);
}

/**
 * Make the blocks those of the tags that stand in the page.
 *
 * @param {Tag[]} tags
 * @param {boolean} isTask
 */
export function arrange(tags, isTask) {
  tags.filter(isDrawing).forEach(provide);
  for (const block of findAll(`[${DRAWN}]`)) {
    const tag = byBlock.get(block);
    if (!tag || !(tag.isConnected ? isDrawing(tag) : justRan.has(tag))) block.remove();
  }
  if (isTask) for (const tag of tags) justRan.delete(tag);
}
