/*
 * The program that a tag loads: it counts a view, and shows the numbers in the places of the page.
 *
 * One program serves a page, however often it is loaded, and from wherever: later ones hand their tag to the first.
 */
import { readingOf, shown } from "./asking.js";
import { paintBlock } from "./block.js";
import { warn } from "./console.js";
import { arrange } from "./drawn.js";
import { paintNumber } from "./numbers.js";
import { addTag, get, said, siteUrl, survey } from "./places.js";
import { BLOCKS, PLACES, findAll, findRoots, passOver, startWatching } from "./roots.js";
import { isLightFree, plan, roundNow, startRounds } from "./rounds.js";
import { startViews } from "./views.js";

/** @typedef {import("./places.js").Place} Place */

const NAME = "hit-counter";
/** How a program asks for one that runs already; an element's name may be another script's. */
const HELLO = "hitcounter:tag";
let isForeign = false;
let isDefined = false;

/** Make the page show what we know. @param {boolean} [isTask] whether it is a task of its own */
function round(isTask) {
  const isFree = isLightFree();
  findRoots();
  const [tags, gone] = survey();
  if (isFree) arrange(tags, isTask);
  if (!document.body) return; // the head is not read yet, which may name the page
  const isNamed = (/** @type {Place} */ place) => get(place, "site");
  const blocks = findAll(BLOCKS).filter(isNamed);
  // Whether a number counts is known when all of the page is.
  const isRead = document.readyState !== "loading";
  const numbers = findAll(PLACES).filter((place) => isRead && !place.matches(BLOCKS) && isNamed(place));
  const standing = [...blocks, ...tags];
  const urls = standing.map(siteUrl);
  const counting = numbers.filter((place) => !said(place, "page")); // the others are of lists of pages
  const others = [...gone, ...counting].filter((place) => !urls.includes(siteUrl(place)));
  for (const place of [...standing, ...others]) if (get(place, "count") !== "false") readingOf(place, true);
  blocks.forEach((host, nth) => paintBlock(host, nth, isForeign, isFree, readingOf(host)));
  if (isFree) for (const place of numbers) paintNumber(place, readingOf(place).answer);
  passOver();
}

/** Take a tag up. @param {any} tag */
function join(tag) {
  if (tag) addTag(tag);
  roundNow();
}

function define() {
  class HitCounter extends HTMLElement {
    connectedCallback() {
      if (isDefined) roundNow(); // what stood in the page before is drawn already
    }
  }
  /** @type {any} */ (HitCounter).add = join; // what earlier programs call when they find this one
  customElements.define(NAME, HitCounter);
  isDefined = true;
}

/** Ask again for pictures that count, on a page that was rendered in advance; no browser asks for an address twice. */
function reloadPictures() {
  for (const picture of findAll("img")) {
    const { src } = picture;
    if (/\/v1\/sites\/.+(pixel|count=1)/.test(src)) picture.src += /\?/.test(src) ? "&_" : "?_";
  }
}

function main() {
  const tag = document.currentScript;
  const earlier = /** @type {any} */ (window.customElements && customElements.get(NAME)) || {};
  if (!document.dispatchEvent(new CustomEvent(HELLO, { detail: tag, cancelable: true }))) return;
  if (earlier.add) return earlier.add(tag || document.querySelector("script[src*='/widget']"));
  document.addEventListener(HELLO, (event) => {
    event.preventDefault();
    join(/** @type {CustomEvent} */ (event).detail);
  });
  addEventListener("DOMContentLoaded", plan);
  if (document.prerendering) shown().then(reloadPictures);
  startWatching();
  startViews();
  startRounds(round);
  isForeign = earlier.prototype;
  join(tag);
  if (isForeign) warn(`${NAME} is taken`);
  else if (window.customElements) define();
}

try {
  main();
} catch (error) {
  warn(error);
}
