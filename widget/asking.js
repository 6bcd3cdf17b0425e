/* What is asked of the service: one hit for each site and view, and what else is to be shown. */
import { warn } from "./console.js";
import { hostOf } from "./drawn.js";
import { here } from "./page.js";
import { get, siteUrl } from "./places.js";
import { plan } from "./rounds.js";
import { asked, isMoving, viewPath } from "./views.js";

/**
 * @typedef {object} Answer
 * @property {string} site
 * @property {string} state
 * @property {{ total: number | null }} [page]
 * @property {{ lang: string, title: string, lines: { key: string, label: string, text: string }[] }} widget
 */
/**
 * @typedef {object} Reading what was asked, and what came
 * @property {Answer} [answer]
 * @property {boolean} [hasFailed]
 * @property {Promise<void>} [end]
 */

/**
 * Ask the service.
 *
 * @param {string} url
 * @param {string} [body]
 * @param {boolean} [isOnce] whether it is not asked again, after a while, where there is no answer
 * @returns {Promise<[number, Answer?]>} status and answer
 */
async function ask(url, body, isOnce) {
  const AT_MOST_MS = 9000;
  const KNOWN_MS = 3e5; // after ten minutes an id would be forgotten, and its hit counted again
  const startedAt = Date.now();
  let status = 0;
  for (const wait_ms of isOnce ? [0] : [0, 2000, 4000]) {
    if (wait_ms) await new Promise((resolve) => setTimeout(resolve, wait_ms));
    if (Date.now() - startedAt > KNOWN_MS) break;
    try {
      const limit = new AbortController();
      setTimeout(() => limit.abort(), AT_MOST_MS);
      const method = body && "POST";
      const response = await fetch(url, { method, body, keepalive: true, signal: limit.signal });
      status = response.status;
      if (status > 399 && status < 500) break;
      const answer = /json/.test(`${response.headers.get("content-type")}`) && (await response.json());
      if (answer.widget.lines) return [status, answer];
    } catch {
      // It is asked again.
    }
  }
  return [status];
}

/**
 * Tell the page, by an event on a place.
 *
 * @param {Element} place
 * @param {string} type
 * @param {unknown} detail
 */
export function tell(place, type, detail) {
  const event = new CustomEvent(`hitcounter:${type}`, { detail, bubbles: true, composed: true });
  (place.isConnected ? place : document).dispatchEvent(event);
}

/**
 * Ask for numbers. A hit that is refused, or fails, is followed by one that only reads.
 *
 * @param {Reading} reading
 * @param {Element} place
 * @param {string} counts the address that reads
 * @param {string} hits the one that counts, if it does
 * @param {string} path
 * @param {Reading} [before] what is counted first
 */
async function fill(reading, place, counts, hits, path, before) {
  if (document.prerendering) await new Promise((resolve) => document.addEventListener("prerenderingchange", resolve));
  if (before) await before.end;
  const url = hits || counts;
  const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const [status, first] = await ask(url, hits ? JSON.stringify({ path, id }) : undefined);
  if (!first) warn(`${url} ${status}`);
  const answer = first || (hits ? (await ask(counts, undefined, true))[1] : undefined);
  const type = answer ? first && hits && "counted" : "failed";
  reading.answer = answer;
  reading.hasFailed = !answer;
  if (type) tell(place, type, answer || { url, status });
  plan();
}

/**
 * Return what is known for a place; ask for it unless that was done in this view, or the page is being left.
 *
 * @param {import("./places.js").Place} place
 * @param {boolean} [isHit]
 * @returns {Reading}
 */
export function readingOf(place, isHit) {
  const url = siteUrl(place);
  const lang = get(place, "lang") && `lang=${encodeURIComponent(get(place, "lang"))}`;
  const path = get(place, "page") || viewPath();
  const counts = `${url}counts?${lang}${here() && `&path=${encodeURIComponent(path)}`}`;
  const isFirst = isHit && !asked.has(url);
  const known = asked.get(counts);
  if (!url || isMoving() || (known && !isFirst)) return known || {};
  /** @type {Reading} */
  const reading = {};
  if (isFirst) {
    for (const key of asked.keys()) if (key.startsWith(url)) asked.delete(key); // they are of before
  }
  const hit = asked.get(url);
  asked.set(isFirst ? url : counts, reading).set(counts, reading);
  reading.end = fill(reading, hostOf(place), counts, isFirst ? `${url}hits?${lang}` : "", path, hit);
  return reading;
}
