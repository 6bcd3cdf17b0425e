/*
 * What stands in the page: tags, which load the program, and places, which say what to show.
 *
 * They are read anew in every round, as the page is the truth. What a place does not say, others say.
 */
import { warn } from "./console.js";
import { BLOCKS, PLACES, findAll } from "./roots.js";

/** @typedef {HTMLElement} Place a block, a number or a tag */
/** @typedef {HTMLScriptElement} Tag */

const FILE = /^([^?#]*\/)widget(-\w+)?\.js\b/;

/** Tags that ran here. @type {Set<Tag>} */
const ran = new Set();
/** The folder that the first of them came from. @type {string | undefined} */
let folder;
/** All that speak for others: in the page, and tags that were in it. @type {any[]} */
let speakers = [];

/** @param {Tag} tag */
export function addTag(tag) {
  for (const earlier of ran) {
    if (!earlier.isConnected && said(earlier, "site") === said(tag, "site")) ran.delete(earlier);
  }
  ran.add(tag);
  folder = folder || (FILE.exec(tag.src) || [])[1];
}

/** Return whether a script is a tag of ours, also one that a router did not run again. @param {any} element */
export function isTag(element) {
  const from = element.localName === "script" && /^$|^m|java/.test(element.type) && (FILE.exec(element.src) || [])[1];
  return ran.has(element) || (from && from === (folder || from));
}

/** Read the page. */
export function survey() {
  const tags = /** @type {Tag[]} */ (findAll("script").filter(isTag));
  const blocks = /** @type {Place[]} */ (findAll(BLOCKS).filter((block) => !block.hasAttribute("data-drawn")));
  const gone = [...ran].filter((tag) => !tag.isConnected);
  speakers = [...tags, ...blocks, ...gone];
  return { tags, blocks, gone };
}

/**
 * Read what an element says itself.
 *
 * @param {Element} element
 * @param {string} name
 */
export function said(element, name) {
  const own = element.localName === "hit-counter" && element.getAttribute(name);
  return own || own === "" ? own : element.getAttribute(`data-${name}`);
}

/**
 * List who speaks for a place that does not say `name`.
 *
 * @param {Place} place
 * @param {string} name
 */
function speakersFor(place, name) {
  if (name[0] === "s") return speakers; // site and server
  if (isTag(place)) return []; // two tags on a page do not disturb each other
  const site = get(place, "site");
  const isBlock = place.matches(BLOCKS);
  const first = isBlock && speakers.find((other) => isTag(other) && said(other, "site"));
  return speakers.filter((other) => {
    const isSame = [null, "", site].includes(said(other, "site"));
    return isBlock ? isTag(other) && (isSame || other === first) : isSame;
  });
}

/**
 * Read what a place says, or what is said for it.
 *
 * @param {Place} place
 * @param {string} name
 * @returns {string} empty where nobody says it
 */
export function get(place, name) {
  /** @type {(string | null)[]} */
  const texts = [said(place, name)];
  for (let node = /** @type {any} */ (place); (node = node.parentNode || node.host); ) {
    if (node.matches && node.matches(PLACES)) texts.push(said(node, name));
  }
  const text = texts.find((own) => own !== null);
  if (text !== undefined) return /** @type {string} */ (text);
  const other = speakersFor(place, name).find((speaker) => said(speaker, name) !== null);
  return (other && said(other, name)) || "";
}

/**
 * Return the address below which the site of a place is counted, which tells sites apart.
 *
 * @param {Place} place
 */
export function siteUrl(place) {
  let site = get(place, "site");
  const server = get(place, "server");
  const { src } = isTag(place) ? place : [...ran, ...speakers].find((tag) => tag.src) || {};
  try {
    if (/[^ -~]/.test(site)) site = new URL(`http://${site}`).hostname; // the one way to write it
  } catch {
    // The service says what is wrong with it.
  }
  try {
    const { href } = server ? new URL(server.replace(/\/*$/, "/"), document.baseURI) : new URL(".", src);
    if (/^http/.test(href)) return `${href}v1/sites/${encodeURIComponent(site)}/`;
  } catch {
    // It is said below.
  }
  warn('say where the service is: server="https://…"');
  return "";
}
