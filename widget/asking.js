/* What is asked of the service: one hit for each site and view, and what else is to be shown. */
import { warn } from "./console.js";
import { here, namedPage } from "./page.js";
import { get, said, siteUrl } from "./places.js";
import { plan } from "./rounds.js";
import { asked, isMoving, isSkipping, viewPath } from "./views.js";

/** @typedef {{ key: string, label: string, short?: string, text: string }} Line */
/**
 * @typedef {object} Answer
 * @property {string} site
 * @property {string} state
 * @property {{ total: number | null }} [page]
 * @property {{ lang: string, title: string, lines: Line[] }} widget
 */
/**
 * @typedef {object} Reading what was asked, and what came
 * @property {Answer} [answer]
 * @property {boolean} [hasFailed]
 * @property {boolean} [isRefused] whether asking again would not help
 * @property {Promise<void>} [end]
 */

/** @typedef {{ url: string, ends: ((answer: any, nth: number) => void)[] }} Batch pages asked for together */

/** Of a request for pages, which has to fit into a request line. */
const MOST_PAGES = 100;
const MOST_CHARACTERS = 6000;

/**
 * Ask the service.
 *
 * @param {string} url
 * @param {string | false | undefined} body
 * @param {number[]} waits_ms before it is asked, and asked again where there is no answer
 * @returns {Promise<any>} the answer, or an object with the address and the status that came instead
 */
async function ask(url, body, waits_ms = [0, 2000, 4000]) {
  const AT_MOST_MS = 9000;
  const KNOWN_MS = 3e5; // after ten minutes an id would be forgotten, and its hit counted again
  const startedAt = Date.now();
  /** @type {any} */
  let status = 0;
  for (const wait_ms of waits_ms) {
    if (wait_ms) await new Promise((resolve) => setTimeout(resolve, wait_ms));
    if (Date.now() - startedAt > KNOWN_MS) break;
    try {
      const limit = new AbortController();
      setTimeout(() => limit.abort(), AT_MOST_MS);
      const method = body ? "POST" : "GET";
      const response = await fetch(url, { method, body: body || null, keepalive: true, signal: limit.signal });
      status = response.status;
      if (/^4/.test(status)) break;
      const answer = await response.json();
      if (answer.pages || answer.widget.lines) return answer;
    } catch {
      // It is asked again.
    }
  }
  if (waits_ms[1]) warn(`${url} ${status}`);
  return { url, status };
}

/**
 * Tell the page, by an event on a place.
 *
 * @param {Element} place
 * @param {string} type
 * @param {unknown} detail
 */
export async function tell(place, type, detail) {
  await null; // the round is over, which passes over what it changed itself
  const event = new CustomEvent(`hitcounter:${type}`, { detail, bubbles: true, composed: true });
  (place.isConnected ? place : document).dispatchEvent(event);
}

/** Wait until the page is shown, if it is rendered in advance. */
export const shown = async () =>
  document.prerendering && new Promise((resolve) => document.addEventListener("prerenderingchange", resolve));

/** @param {string} name @param {string} value */
const field = (name, value) => value && `${name}=${encodeURIComponent(value)}`;

/**
 * Return what is known for a place; ask for it unless that was done in this view, or the page is being left.
 *
 * @param {import("./places.js").Place} place
 * @param {boolean} [isHit]
 * @returns {Reading}
 */
export function readingOf(place, isHit) {
  const site = siteUrl(place);
  const lang = field("&lang", get(place, "lang"));
  const page = get(place, "page");
  const path = page ? namedPage(page) : viewPath();
  const isWeb = here();
  const named = isWeb && field("&path", path);
  const counts = `${site}counts?labels=both${lang}${named}`;
  const pages = named && page && said(place, "hitcounter") === "page" && `${site}pages?${lang.slice(1)}`;
  const hits = isHit && isWeb && !isSkipping && !asked.has(site) && `${site}hits?labels=both${lang}`;
  const known = asked.get(counts) || (pages && asked.get(pages + named));
  if (!site || isMoving() || (known && !hits)) return known || {};
  if (hits) asked.forEach((_, key) => key.startsWith(site) && asked.delete(key)); // they are of before
  /** @type {Reading} */
  const reading = {};
  if (pages && !hits) {
    /** @type {Batch} */
    let batch = asked.get(pages);
    if (!batch || batch.ends[MOST_PAGES - 1] || batch.url.length + named.length > MOST_CHARACTERS) {
      batch = { url: pages, ends: [] };
      fillPages(pages, batch);
    }
    batch.url += named;
    batch.ends.push((answer, nth) => {
      if (answer.pages) reading.answer = { ...answer, page: answer.pages[nth], widget: answer };
      else tell(place, "failed", answer);
    });
    asked.set(pages, batch).set(pages + named, reading);
    return reading;
  }
  const before = asked.get(site);
  asked.set(hits ? site : counts, reading).set(counts, reading);
  reading.end = fill();
  return reading;

  /** Ask. A hit that is refused, or fails, is followed by a request that only reads. */
  async function fill() {
    await shown();
    if (before) await before.end;
    const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    const first = await ask(hits || counts, hits && JSON.stringify({ path, id }));
    const answer = first.widget || !hits ? first : await ask(counts, "", [0]);
    reading.hasFailed = !answer.widget;
    reading.isRefused = /^4/.test(answer.status);
    if (reading.hasFailed) tell(place, "failed", first);
    else reading.answer = answer;
    if (hits && first.widget) tell(place, "counted", first);
    plan();
  }
}

/**
 * Ask for the totals of pages, when the round is over that names them; nothing is counted.
 *
 * @param {string} pages
 * @param {Batch} batch
 */
async function fillPages(pages, batch) {
  await shown();
  asked.delete(pages);
  const answer = await ask(batch.url, "");
  batch.ends.forEach((end, nth) => end(answer, nth));
  plan();
}
