/*
 * The blocks of tags: one for each tag that draws, as long as it stands in the page.
 *
 * Such a block says what its tag says, and is a place like others from then on.
 */
import { make, memoryOf } from "./make.js";
import { justRan, said } from "./places.js";
import { findAll } from "./roots.js";
import { mayWrite, plan } from "./rounds.js";

/** @typedef {import("./places.js").Tag} Tag */

/** @type {WeakMap<Element, any>} */
const blocks = new WeakMap();

/** @param {Tag} tag */
const isDrawing = (tag) =>
  tag.isConnected && said(tag, "block") !== "off" && (said(tag, "target") || !tag.closest("head"));

/** Return whether a block is of a tag that is gone, or came with a copy of the page. @param {any} element */
const isLeft = (element) =>
  element.tag
    ? !element.tag.isConnected
    : element.matches("hit-counter[data-drawn],hit-counter[data-state]:not([site])") && !memoryOf(element).shownLook;

/** @param {string} selector */
function findTarget(selector) {
  try {
    return findAll(selector)[0];
  } catch {
    // It is no selector.
  }
}

/** Give a tag its block: the one it has, one that was left, or a new one. @param {Tag} tag */
function provide(tag) {
  let block = blocks.get(tag);
  if (block && block.isConnected) return;
  const target = said(tag, "target");
  const into = target && findTarget(target);
  if (target && !into) return;
  const left = [...(into ? into.children : [tag.nextElementSibling || tag])].find(isLeft);
  if (!left && block && !mayWrite(memoryOf(block), true)) return;
  block = left || block || make("hit-counter");
  blocks.set(tag, block);
  block.tag = tag;
  for (const { name, value } of tag.attributes) if (/^data-/.test(name)) block.setAttribute(name, value);
  block.setAttribute("data-drawn", "");
  if (left) plan(); // which speaks for nobody from now on
  else into ? into.append(block) : tag.after(block);
}

/**
 * Make the blocks those of the tags that stand in the page.
 *
 * @param {Tag[]} tags
 * @param {boolean} [isTask]
 */
export function arrange(tags, isTask) {
  tags.filter(isDrawing).forEach(provide);
  for (const tag of justRan) {
    const block = !tag.isConnected && blocks.get(tag);
    if (block) block.removeAttribute("data-drawn");
    if (isTask) justRan.delete(tag);
  }
  for (const block of findAll("hit-counter[data-drawn]")) {
    const { tag } = block;
    if (!tag || blocks.get(tag) !== block || !isDrawing(tag)) {
      block.remove();
      plan(); // nor does this one speak any more
    }
  }
}
