/*
 * The program that a tag loads: it counts a view, and shows the numbers in the places of the page.
 *
 * One program serves a page, however often it is loaded, and from wherever: later ones hand their tag to the first.
 */
import { readingOf } from "./asking.js";
import { paintBlock } from "./block.js";
import { warn } from "./console.js";
import { arrange, justRan, placeOf } from "./drawn.js";
import { paintNumber } from "./numbers.js";
import { here } from "./page.js";
import { addTag, get, isTag, said, siteUrl, survey } from "./places.js";
import { BLOCKS, PLACES, findAll, findRoots, startWatching } from "./roots.js";
import { isLightFree, plan, roundNow, startRounds } from "./rounds.js";
import { isMoving, startViews } from "./views.js";

/** @typedef {import("./places.js").Place} Place */
/** @typedef {import("./places.js").Tag} Tag */

const NAME = "hit-counter";
/** How a program asks for one that runs already; an element's name may be another script's. */
const HELLO = "hitcounter:tag";
const PICTURES = "img[src*='pixel.gif'],img[src*='count=1']";
let isForeign = false;

/** Make the page show what we know. @param {boolean} isTask whether it is a task of its own */
function round(isTask) {
  findRoots();
  const { tags, blocks, gone } = survey();
  if (isLightFree()) arrange(tags, isTask);
  if (!document.body) return; // the head is not read yet, which may name the page
  const isNamed = (/** @type {Place} */ place) => get(place, "site");
  const isNaming = (/** @type {Place} */ tag) => said(tag, "site");
  // Whether a number counts is known when all of the page is.
  const isRead = document.readyState !== "loading";
  const numbers = isRead ? findAll(PLACES).filter((place) => !place.matches(BLOCKS) && isNamed(place)) : [];
  const standing = [...tags.filter(isNaming), ...blocks.filter(isNamed)];
  const urls = standing.map(siteUrl);
  const others = [...gone.filter(isNaming), ...numbers].filter((place) => !urls.includes(siteUrl(place)));
  for (const place of [...standing, ...others]) {
    if (here() && get(place, "count") !== "false") readingOf(place, true);
  }
  findAll(BLOCKS).forEach((host, nth) => {
    const place = placeOf(host);
    if (isNamed(place)) paintBlock(host, place, nth, isForeign && host.localName === NAME, readingOf(place));
  });
  for (const place of numbers) {
    const isLeft = place.dataset.hitcounter === "page" && isMoving() && !get(place, "page");
    const { answer } = readingOf(place);
    if (isLightFree()) paintNumber(place, answer, isLeft);
  }
}

/** Take a tag up. @param {Tag | null} tag */
function join(tag) {
  if (tag) {
    addTag(tag);
    justRan.add(tag);
  }
  roundNow();
}

function define() {
  if (customElements.get(NAME)) {
    isForeign = true;
    return warn(`<${NAME}> is an element of another script`);
  }
  class HitCounter extends HTMLElement {
    connectedCallback() {
      roundNow();
    }
  }
  /** @type {any} */ (HitCounter).add = join; // what earlier programs call when they find this one
  customElements.define(NAME, HitCounter);
}

/**
 * Hand the tag to a program that runs already.
 *
 * @param {Tag | null} tag
 * @returns {unknown} whether there is one
 */
function handOver(tag) {
  if (!document.dispatchEvent(new CustomEvent(HELLO, { detail: tag, cancelable: true }))) return true;
  const earlier = window.customElements && customElements.get(NAME);
  if (!earlier || !earlier.add) return false;
  earlier.add(/** @type {Tag} */ (tag || findAll("script").find(isTag)));
  return true;
}

/** Ask for counting pictures when the page is shown that was rendered in advance: the browser does not. */
function reloadPictures() {
  for (const picture of /** @type {HTMLImageElement[]} */ (findAll(PICTURES))) {
    const { src } = picture;
    if (src.includes("/v1/sites/")) picture.src = src;
  }
}

function main() {
  const tag = document.currentScript instanceof HTMLScriptElement ? document.currentScript : null;
  if (handOver(tag)) return;
  document.addEventListener(HELLO, (event) => {
    event.preventDefault();
    join(/** @type {CustomEvent} */ (event).detail);
  });
  document.addEventListener("DOMContentLoaded", () => plan());
  if (document.prerendering) document.addEventListener("prerenderingchange", reloadPictures);
  startWatching(plan);
  startViews(plan);
  if (tag) addTag(tag);
  startRounds(round);
  if (window.customElements) define();
  join(tag);
}

try {
  main();
} catch (error) {
  warn(error);
}
