/*
 * The block: a title and lines, in a shadow root that the page's styles and routers leave alone; with the theme
 * `plain`, and where there can be no such root, in the place itself.
 */
import { tell } from "./asking.js";
import CSS from "./block.css";
import { get } from "./places.js";
import { isLightFree, mayWrite } from "./rounds.js";

/** @type {Record<string, string>} */
const ICONS = {
  today: "M6 1a5 5 0 1 0 .1 0M6 3v3h2",
  yesterday: "M2 2v3h3M2 5a4 4 0 1 1 1 4",
  month: "M1 3h10v8H1zM1 5h10M4 1v3M8 1v3",
  year: "M2 11V7M6 11V4M10 11V1",
  total: "M6 1a2 2 0 1 0 .1 0M1 11c0-5 10-5 10 0",
};
export const KEYS = Object.keys(ICONS);
/**
 * @typedef {object} Memory what was drawn into an element
 * @property {import("./asking.js").Answer} [answer]
 * @property {string} [state]
 * @property {string} [look]
 * @property {Node | null} [section]
 * @property {Node | null} [root]
 * @property {boolean} [isHidden]
 * @property {number} [at]
 */

/** @type {WeakMap<Element, Memory>} */
const memories = new WeakMap();

/** @param {Element} host @returns {Memory} */
export function memoryOf(host) {
  const memory = memories.get(host) || {};
  memories.set(host, memory);
  return memory;
}

/**
 * @param {string} name
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
function make(name, attributes, ...children) {
  const space = /svg|path/.test(name) ? "2000/svg" : "1999/xhtml";
  const element = document.createElementNS(`http://www.w3.org/${space}`, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  element.append(...children);
  return /** @type {HTMLElement} */ (element);
}

/**
 * Give a shadow root our styles.
 *
 * @param {ShadowRoot} root
 * @returns {boolean} whether it took them: the page's policy may forbid the older way
 */
function dress(root) {
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    return true;
  } catch {
    const style = make("style", {}, CSS);
    root.append(style);
    return !!(/** @type {HTMLStyleElement} */ (style).sheet);
  }
}

/**
 * @param {import("./asking.js").Answer | undefined} answer
 * @param {string} lines
 * @param {number} nth among the blocks of the page
 * @param {string | false} theme false where there are no styles
 */
function makeSection(answer, lines, nth, theme) {
  const { lang = "", title = "\xa0", lines: found = [] } = answer ? answer.widget : {};
  const row = (/** @type {string} */ key) => {
    const { label = title, text = title } = found.find((line) => line.key === key) || {};
    const path = make("path", { d: ICONS[key] });
    const icon = theme !== false ? make("svg", { viewBox: "0 0 17 12", "aria-hidden": "true" }, path) : "";
    return make("li", {}, icon, make("span", {}, `${label}:`), ` ${text}`);
  };
  const section = make(
    "section",
    { lang, dir: "auto", "aria-label": title + (nth > 0 ? ` ${nth + 1}` : "") },
    make("h2", {}, title),
    make("ul", { role: "list" }, ...(lines.match(/\w+/g) || KEYS).filter((key) => ICONS[key]).map(row)),
  );
  if (!answer) section.style.visibility = "hidden";
  if (theme === "light" || theme === "dark") section.style.colorScheme = theme;
  return section;
}

/**
 * Draw into a shadow root if there can be one, else into the element.
 *
 * @param {HTMLElement} host
 * @param {boolean} isPlain
 * @param {(hasIcons: boolean) => HTMLElement} content
 */
function draw(host, isPlain, content) {
  /** @type {HTMLElement | ShadowRoot} */
  let root = host;
  try {
    if (!isPlain) root = host.shadowRoot || host.attachShadow({ mode: "open" });
  } catch {
    // Then it is plain.
  }
  root.textContent = "";
  const section = content(root !== host && dress(/** @type {ShadowRoot} */ (root)));
  root.append(section);
  return section;
}

/** Return whether a place holds something that is seen. @param {Element} host */
const hasFallback = (host) => /\S/.test(host.innerHTML.replace(/<(noscript|!--)[^]*?(<\/noscript|--)>/g, ""));

/**
 * Show in a block what is known of its numbers: those of an earlier view until there are newer ones.
 *
 * @param {HTMLElement} host
 * @param {HTMLElement} place that says what to show: the element itself, or its tag
 * @param {number} nth among the blocks of the page
 * @param {boolean} isForeign whether another script draws into the element too
 * @param {import("./asking.js").Reading} reading
 */
export function paintBlock(host, place, nth, isForeign, { answer: news, hasFailed }) {
  const memory = memoryOf(host);
  const theme = get(place, "theme");
  const lines = get(place, "lines");
  const answer = news || memory.answer;
  const look = [theme, lines, nth].join();
  const isKnown = answer === memory.answer && look === memory.look;
  const isWaiting = !answer && !memory.section && hasFallback(host);
  const isThere = isKnown && (isWaiting || (!!memory.section && memory.section.parentNode === memory.root));
  const state = news ? news.state : hasFailed && answer ? "stale" : memory.state || "";
  const isHidden = !!hasFailed && !answer && !isWaiting;
  const isFree = isLightFree();
  const isPlain = isForeign || (theme === "plain" && !host.shadowRoot);
  const isMarked = host.dataset.state === state && host.hidden === isHidden;
  if (isPlain && !isFree) return;
  if (isThere && (isMarked || !isFree)) return;
  if (!mayWrite(memory, isKnown && state === memory.state && isHidden === memory.isHidden)) return;
  if (!isThere && !isWaiting) {
    memory.section = draw(host, isPlain, (hasIcons) => makeSection(answer, lines, nth, hasIcons && theme));
    memory.root = memory.section.parentNode;
  }
  const isNews = news && news !== memory.answer;
  Object.assign(memory, { answer, look });
  if (isFree) {
    Object.assign(memory, { state, isHidden });
    host.dataset.state = state;
    host.hidden = isHidden;
  }
  if (isNews) tell(host, "shown", news);
}
