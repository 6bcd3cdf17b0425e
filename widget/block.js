/*
 * The block: a title and lines, in a shadow root that the page's styles and routers leave alone; with the theme
 * `plain`, and where there can be no such root, in the place itself.
 */
import { tell } from "./asking.js";
import CSS from "./block.css";
import { make, memoryOf } from "./make.js";
import { get } from "./places.js";
import { mayWrite, plan } from "./rounds.js";

/** @typedef {import("./asking.js").Answer["widget"]} Widget */

/** @type {Record<string, string>} */
const ICONS = {
  today: "M6 1a5 5 0 1 0 .1 0M6 3v3h2",
  yesterday: "M2 2v3h3M2 5a4 4 0 1 1 1 4",
  month: "M1 3h10v8H1zM1 5h10M4 1v3M8 1v3",
  year: "M2 11V7M6 11V4M10 11V1",
  total: "M10 3V1H2l4 5-4 5h8V9",
};
export const KEYS = Object.keys(ICONS);
/** Keeps the place of a text that is not known yet; it is not seen. */
const UNKNOWN = "-";
/** What a block shows before there are numbers. */
const EMPTY = { lang: "", title: UNKNOWN, lines: [] };
const LOOK = "theme style title icons accent lines".split(" ");

/** @type {CSSStyleSheet} */
let sheet;

/**
 * Give a shadow root our styles.
 *
 * @param {ShadowRoot} root
 * @returns {boolean} whether it took them: the page's policy may forbid the older way
 */
function dress(root) {
  try {
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    return true;
  } catch {
    const style = make("style", {}, CSS);
    root.append(style);
    return style.sheet;
  }
}

/**
 * @param {string} key
 * @param {import("./asking.js").Line | undefined} line
 * @param {boolean} hasIcon
 * @param {boolean} isLine
 */
function makeRow(key, line, hasIcon, isLine) {
  const { label = UNKNOWN, short = label, text = UNKNOWN } = line || {};
  return make(
    "li",
    { part: `row row-${key}` },
    hasIcon
      ? make("svg", { part: "icon", viewBox: "0 0 17 12", "aria-hidden": "true" }, make("path", { d: ICONS[key] }))
      : "",
    make(
      "span",
      { part: "label", "data-short": short },
      make("span", {}, isLine ? short : label),
      make("span", {}, ":"),
    ),
    " ",
    make("data", { part: "number" }, text),
  );
}

/**
 * @param {Widget} widget
 * @param {string[]} look what is said of it, in the order of LOOK
 * @param {number} nth among the blocks of the page
 * @param {boolean} isStyled
 */
function makeSection({ lang, title, lines: found }, [theme, style, ownTitle, icons, accent, lines], nth, isStyled) {
  const heading = (ownTitle || title).trim().slice(0, 60);
  const keys = (lines.match(/\w+/g) || KEYS).filter((key) => KEYS.includes(key));
  const isLine = style === "line";
  const hasIcons = isStyled && !isLine && icons !== "off";
  const rows = keys.map((key) => makeRow(key, found.find((line) => line.key === key), hasIcons, isLine));
  const section = make(
    "section",
    { part: "block", lang, dir: "auto", "aria-label": (heading || title) + (nth ? ` ${nth + 1}` : "") },
    heading ? make("h2", { part: "title" }, heading) : "",
    " ",
    make("ul", { part: "list", role: "list" }, ...rows.flatMap((row) => [row, " "])),
  );
  if (!lang) section.style.visibility = "hidden";
  if (isStyled) {
    section.className = `${theme} ${style}`; // of which only those of block.css mean anything
    const [, digits] = /^#?([\da-f]{3,6})$/i.exec(accent) || [];
    if (digits) section.style.setProperty("--hitcounter-accent", `#${digits}`);
  }
  return section;
}

/**
 * Draw into a shadow root if there can be one, else into the element.
 *
 * @param {HTMLElement} host
 * @param {boolean} isPlain
 * @param {Widget} widget
 * @param {string[]} look
 * @param {number} nth
 */
function draw(host, isPlain, widget, look, nth) {
  /** @type {HTMLElement | ShadowRoot} */
  let root = host;
  try {
    if (!isPlain) root = host.shadowRoot || host.attachShadow({ mode: "open" });
  } catch {
    // Then it is plain.
  }
  root.textContent = "";
  const section = makeSection(widget, look, nth, root !== host && dress(/** @type {ShadowRoot} */ (root)));
  root.append(section);
  return section;
}

/**
 * Return whether a block may go: one that is refused does at once, others where that moves nothing that is read.
 * Above, most browsers keep what is in sight where it is. Else look again later.
 *
 * @param {HTMLElement} host
 * @param {boolean | undefined} isRefused
 */
function mayGo(host, isRefused) {
  const { top, bottom } = host.getBoundingClientRect();
  addEventListener("scroll", plan, { once: true });
  return bottom < 0 ? "overflowAnchor" in host.style : isRefused || top > innerHeight;
}

/** Return whether a place holds something that is seen. @param {Element} host */
const hasFallback = (host) => /\S/.test(host.innerHTML.replace(/<(noscript|!--)[^]*?(\/noscript|--)>/g, ""));

/**
 * Show in a block what is known of its numbers: those of an earlier view until there are newer ones.
 *
 * @param {HTMLElement} host
 * @param {number} nth among the blocks of the page
 * @param {boolean} isForeign whether another script draws into the element too
 * @param {boolean} isFree whether the element itself may be written, not only its shadow root
 * @param {import("./asking.js").Reading} reading
 */
export function paintBlock(host, nth, isForeign, isFree, { answer: news, hasFailed, isRefused }) {
  const memory = memoryOf(host);
  const look = LOOK.map((name) => get(host, name));
  const answer = news || memory.answer;
  const isWaiting = !answer && !memory.shownSection && hasFallback(host);
  const isEmpty = !answer && !isWaiting;
  const isHidden = !!(isEmpty && (memory.isHidden || (hasFailed && mayGo(host, isRefused))));
  const state = news ? news.state : hasFailed && answer ? "stale" : memory.shownState || "";
  const key = [...look, nth, state, isHidden].join();
  const isKnown = answer === memory.answer && key === memory.shownLook;
  const isPlain = isForeign || (look[0] === "plain" && !host.shadowRoot);
  const isMarked = !isFree || host.dataset.state === state;
  if (isKnown && isMarked && (isWaiting || memory.shownSection.isConnected)) return;
  if ((isPlain && !isFree) || !mayWrite(memory, isKnown)) return;
  if (!isWaiting) memory.shownSection = draw(host, isPlain, answer ? answer.widget : EMPTY, look, nth);
  if (isFree) {
    host.dataset.state = state;
    if (isHidden || memory.isHidden !== isHidden) host.hidden = isHidden;
    memory.isHidden = isHidden;
  }
  memory.answer = answer;
  memory.shownLook = key;
  memory.shownState = state;
  if (news) tell(host, "shown", news);
}
