/*
 * Numbers as texts of the page's own elements.
 *
 * A text is written when our number changes, or when it is as before us: new, emptied, set back.
 * Whatever else the page makes of it, a format of its own or an animation, is the page's.
 */
import { tell } from "./asking.js";
import { KEYS } from "./block.js";
import { memoryOf } from "./make.js";
import { get, said } from "./places.js";
import { mayWrite } from "./rounds.js";
import { isMoving } from "./views.js";

/**
 * Write a number into its place.
 *
 * @param {HTMLElement} place
 * @param {any} answer
 */
export function paintNumber(place, answer) {
  const old = place.textContent;
  const memory = memoryOf(place);
  const { before = old, written } = memory;
  memory.before = before;
  const name = said(place, "hitcounter");
  const isLeft = name === "page" && isMoving() && !get(place, "page");
  if (isLeft && written) {
    if (old === written) place.textContent = "";
    memory.written = "";
  }
  const found = (!isLeft && answer) || {};
  const number = name === "page" ? (found.page || {}).total : KEYS.includes(name) && found[name];
  if (typeof number !== "number") return;
  const ours = number.toLocaleString(answer.widget.lang);
  const isRepeated = ours === written;
  if (ours !== old && (!isRepeated || !old || old === before)) {
    if (!mayWrite(memory, isRepeated)) return;
    place.textContent = ours;
  }
  memory.written = ours;
  if (memory.answer !== answer) tell(place, "shown", (memory.answer = answer));
}
