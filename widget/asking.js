/* What is asked of the service: one hit for each site and view, and what else is to be shown. */
import { warn } from "./console.js";
import { here, namedPage } from "./page.js";
import { get, said, siteUrl } from "./places.js";
import { plan } from "./rounds.js";
import { asked, isMoving, viewPath } from "./views.js";

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

/**
 * Ask the service.
 *
 * @param {string} url
 * @param {string | false | undefined} body
 * @param {...number} waits_ms before it is asked, and asked again where there is no answer
 * @returns {Promise<any>} the answer, or an object with the address and the status that came instead
 */
async function ask(url, body, ...waits_ms) {
  const AT_MOST_MS = 9000;
  const KNOWN_MS = 3e5; // after ten minutes an id would be forgotten, and its hit counted again
  const startedAt = Date.now();
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
      if (/^4/.test(`${status}`)) break;
      const answer = /json/.test(`${response.headers.get("content-type")}`) && (await response.json());
      if (answer.pages || answer.widget.lines) return answer;
    } catch {
      // It is asked again.
    }
  }
  return { url, status };
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

/** Wait until the page is shown, if it is rendered in advance. */
const shown = () =>
  document.prerendering && new Promise((resolve) => document.addEventListener("prerenderingchange", resolve));

/**
 * Numbers of pages that are to be asked for together.
 *
 * @type {{ url: string, path: string, place: Element, reading: Reading }[]}
 */
let listed = [];

/**
 * Return what is known for a place; ask for it unless that was done in this view, or the page is being left.
 *
 * @param {import("./places.js").Place} place
 * @param {boolean} [isHit]
 * @returns {Reading}
 */
export function readingOf(place, isHit) {
  const site = siteUrl(place);
  const lang = get(place, "lang") && `lang=${encodeURIComponent(get(place, "lang"))}`;
  const page = get(place, "page");
  const path = page ? namedPage(page) : viewPath();
  const isWeb = here();
  const field = isWeb && `&path=${encodeURIComponent(path)}`;
  const counts = `${site}counts?${lang}${field}`;
  const pages = field && page && said(place, "hitcounter") === "page" && `${site}pages?${lang}`;
  const hits = isHit && isWeb && !asked.has(site) && `${site}hits?${lang}`;
  const known = asked.get(counts) || (pages && asked.get(pages + field));
  if (!site || isMoving() || (known && !hits)) return known || {};
  if (hits) for (const key of asked.keys()) if (key.startsWith(site)) asked.delete(key); // they are of before
  /** @type {Reading} */
  const reading = {};
  if (pages && !hits) {
    asked.set(pages + field, reading);
    listed.push({ url: pages, path: field, place, reading });
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
    const first = await ask(hits || counts, hits && JSON.stringify({ path, id }), 0, 2000, 4000);
    const answer = first.widget || !hits ? first : await ask(counts, "", 0);
    if (!first.widget) warn(`${first.url} ${first.status}`);
    reading.hasFailed = !answer.widget;
    reading.isRefused = answer.status > 399 && answer.status < 500;
    if (reading.hasFailed) tell(place, "failed", first);
    else reading.answer = answer;
    if (hits && first.widget) tell(place, "counted", first);
    plan();
  }
}

/** Ask for the pages that the numbers of a round name: as many at once as a request line carries. */
export function askPages() {
  const MOST = 100;
  const MOST_CHARACTERS = 6000;
  while (listed.length) {
    let { url } = listed[0];
    const start = url;
    /** @type {typeof listed} */
    const batch = [];
    listed = listed.filter((number) => {
      const isRoom = batch.length < MOST && url.length + number.path.length <= MOST_CHARACTERS;
      if (number.url !== start || (batch[0] && !isRoom)) return true;
      url += number.path;
      return batch.push(number) < 0;
    });
    fillPages(url, batch);
  }
}

/**
 * Ask for pages; nothing is counted.
 *
 * @param {string} url
 * @param {typeof listed} batch
 */
async function fillPages(url, batch) {
  await shown();
  const answer = await ask(url, "", 0, 2000, 4000);
  const { pages } = answer;
  if (!pages) warn(`${answer.url} ${answer.status}`);
  batch.forEach(({ place, reading }, nth) => {
    if (pages) reading.answer = { ...answer, page: pages[nth], widget: answer };
    else tell(place, "failed", answer);
  });
  plan();
}
