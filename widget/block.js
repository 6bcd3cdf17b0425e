/*
 * The block: a title and lines, in a shadow root that the page's styles and routers leave alone; with the theme
 * `plain`, and where there can be no such root, in the place itself.
 */
import { tell } from "./asking.js";
import CSS from "./block.css";
import { make, memoryOf } from "./make.js";
import { get } from "./places.js";
import { mayWrite } from "./rounds.js";

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
    make("ul", { role: "list" }, ...(lines.match(/\w+/g) || KEYS).filter((key) => KEYS.includes(key)).map(row)),
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
 * @param {number} nth among the blocks of the page
 * @param {boolean} isForeign whether another script draws into the element too
 * @param {boolean} isFree whether the element itself may be written, not only its shadow root
 * @param {import("./asking.js").Reading} reading
 */
export function paintBlock(host, nth, isForeign, isFree, { answer: news, hasFailed }) {
  const memory = memoryOf(host);
  const theme = get(host, "theme");
  const lines = get(host, "lines");
  const answer = news || memory.answer;
  const isWaiting = !answer && !memory.section && hasFallback(host);
  const isHidden = !!hasFailed && !answer && !isWaiting;
  const state = news ? news.state : hasFailed && answer ? "stale" : memory.state || "";
  const key = [theme, lines, nth, state, isHidden].join();
  const isKnown = answer === memory.answer && key === memory.key;
  const isPlain = isForeign || (theme === "plain" && !host.shadowRoot);
  const isMarked = !isFree || host.dataset.state === state;
  if (isKnown && isMarked && (isWaiting || memory.section.isConnected)) return;
  if ((isPlain && !isFree) || !mayWrite(memory, isKnown)) return;
  if (!isWaiting) {
    memory.section = draw(host, isPlain, (hasIcons) => makeSection(answer, lines, nth, hasIcons && theme));
  }
  if (isFree) {
    host.dataset.state = state;
    if (isHidden || memory.isHidden !== false) host.hidden = isHidden;
    memory.isHidden = isHidden;
  }
  Object.assign(memory, { answer, key, state });
  if (news) tell(host, "shown", news);
}
