/*
 * Numbers as texts of the page's own elements.
 *
 * A text is written when our number changes, or when it is as before us: new, emptied, set back.
 * Whatever else the page makes of it, a format of its own or an animation, is the page's.
 */
import { tell } from "./asking.js";
import { KEYS } from "./block.js";
import { mayWrite } from "./rounds.js";

/** @type {WeakMap<Element, { before: string | null, text?: string, answer?: object, at?: number }>} */
const memories = new WeakMap();

/**
 * Write a number into its place.
 *
 * @param {HTMLElement} place
 * @param {any} answer
 * @param {boolean} isLeft whether the page that the number was of is being left
 */
export function paintNumber(place, answer, isLeft) {
  const old = place.textContent;
  const memory = memories.get(place) || { before: old };
  memories.set(place, memory);
  if (isLeft && memory.text) {
    if (old === memory.text) place.textContent = "";
    memory.text = "";
  }
  const name = place.dataset.hitcounter || "";
  const { page = {}, ...lines } = (!isLeft && answer) || {};
  const number = name === "page" ? page.total : KEYS.includes(name) && lines[name];
  if (typeof number !== "number") return;
  const text = number.toLocaleString(answer.widget.lang);
  const isRepeated = text === memory.text;
  if (text !== old && (!isRepeated || !old || old === memory.before)) {
    if (!mayWrite(memory, isRepeated)) return;
    place.textContent = text;
  }
  memory.text = text;
  if (memory.answer !== answer) tell(place, "shown", (memory.answer = answer));
}
