/*
 * When a view begins: one for each page that the reader opened.
 *
 * The first begins with the script. A later one begins when the address has been that of another page
 * for a second: what is replaced or taken back before then was no page that anybody saw.
 */
import { warn } from "./console.js";
import { canonicalPage, here, pageOf } from "./page.js";
import { plan } from "./rounds.js";

/** What the view has asked, by address. @type {Map<string, any>} */
export let asked = new Map();
let current = here();
let next = current;
let isFirst = true;
let path = "";
let timer = 0;

/** Whether this browser counts nothing, as whoever makes the site wants. @type {unknown} */
export let isSkipping;

/** Return whether the address has changed, and nobody knows yet whether it stays. */
export const isMoving = () => next !== current && pageOf(next) !== pageOf(current);

/** Return the path that the view counts; fixed when it is first asked for. */
export const viewPath = () => (path = path || pageOf(current, isFirst && canonicalPage(current)));

function begin() {
  clearTimeout(timer);
  current = next = here();
  path = "";
  isFirst = false;
  asked = new Map();
  plan();
}

/** @param {boolean} isReplaced whether the new address took the place of the old one */
function moved(isReplaced) {
  const STANDS_MS = 1000;
  const REDIRECTED_MS = 1000; // after the load
  const now = here();
  if (pageOf(now) === pageOf(next)) return;
  const { loadEventEnd } = performance.timing;
  const isLoading = !loadEventEnd || Date.now() < loadEventEnd + REDIRECTED_MS;
  if (isReplaced && isFirst && isLoading && !isMoving()) current = now; // a redirect
  next = now;
  clearTimeout(timer);
  if (isMoving()) timer = /** @type {any} */ (setTimeout(begin, STANDS_MS));
  plan();
}

function watchHistory() {
  for (const name of /** @type {const} */ (["push", "replace"])) {
    const original = history[`${name}State`];
    history[`${name}State`] = function (...args) {
      original.apply(this, args);
      moved(name === "replace");
    };
  }
  addEventListener("popstate", () => moved(false));
}

/** Turn counting off in this browser, or on again, where the address says so. */
function skip() {
  try {
    isSkipping = localStorage.hitcounter;
    if (/#hitcounter-skip/.test(here())) warn((localStorage.hitcounter = isSkipping = isSkipping ? "" : "off"));
  } catch {
    // The browser keeps nothing here.
  }
}

/** Begin a view, in a round of its own, whenever one begins. */
export function startViews() {
  skip();
  const { navigation } = window;
  if (navigation) {
    navigation.addEventListener("currententrychange", (event) => moved(event.navigationType === "replace"));
  } else watchHistory();
  addEventListener("pageshow", (event) => event.persisted && begin());
}
