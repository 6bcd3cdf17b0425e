/*
 * What stands in the page: tags, which load the program, and places, which say what to show.
 *
 * They are read anew in every round, as the page is the truth. What a place does not say, others say.
 */
import { warn } from "./console.js";
import { parse } from "./page.js";
import { BLOCKS, PLACES, findAll, placeOf } from "./roots.js";

/** @typedef {HTMLElement} Place a block, a number or a tag */
/** @typedef {HTMLScriptElement} Tag */

const FILE = /^([^?#]*\/)widget(-\w+)?\.js\b/;

/** Tags that ran here. @type {Set<Tag>} */
const ran = new Set();
/** The folder that the first of them came from. @type {string | undefined} */
let folder;
/** All that speak for others: in the page, and tags that were in it. @type {any[]} */
let speakers = [];

/** Tags that ran since the last task of ours. Whoever loads one may take it away at once; its block stays. */
export const justRan = /** @type {Set<Tag>} */ (new Set());

/** @param {Tag} tag */
export function addTag(tag) {
  ran.add(tag);
  justRan.add(tag);
  folder = folder || (FILE.exec(tag.src) || [])[1];
}

/** Return whether an element is a tag of ours, also one that no router ran, or its block. @param {any} element */
export function isTag(element) {
  const from = /^$|^m|java/.test(element.type) && (FILE.exec(element.src) || [])[1];
  return element.tag || ran.has(element) || (from && from === (folder || from));
}

/** Read the page; give the tags that name a site: those that stand there, and those that did. */
export function survey() {
  const tags = /** @type {Tag[]} */ (findAll("script").filter(isTag));
  const gone = [...ran].filter((tag) => !tag.isConnected);
  speakers = [...tags, ...findAll(BLOCKS).filter((block) => !isTag(block)), ...gone];
  return [tags, gone].map((some) => some.filter((tag) => said(tag, "site")));
}

/** Return whether a tag or block makes the fragment of the address a part of the page's path. */
export const hasHash = () => speakers.some((place) => place.matches("hit-counter[hash],[data-hash]"));

/** Name the parameters of an address that name a page: what the first tag or place says that does. */
export function queryNames() {
  const text = [...speakers, ...findAll(PLACES)].map((place) => said(place, "query")).find(Boolean) || "";
  return text.split(/[\s,]+/, 8);
}

/**
 * Read what an element says itself, but not by its title and style, which are HTML's own. No title is one of a space,
 * so that it counts as said.
 *
 * @param {Element} element
 * @param {string} name
 */
export function said(element, name) {
  const own = element.localName === "hit-counter" && !/^(ti|st)/.test(name) && element.getAttribute(name);
  const text = own || element.getAttribute(`data-${name}`);
  return text || (text === "" && name === "title" ? " " : "");
}

/**
 * Return whether one element speaks for a place that does not say `name`.
 *
 * @param {Place} place
 * @param {string} name
 * @param {Place} other
 */
function speaksFor(place, name, other) {
  if (/^s[ei]/.test(name)) return true; // server and site
  if (isTag(place)) return false; // two tags on a page do not disturb each other
  const isSame = ["", get(place, "site")].includes(said(other, "site"));
  if (!place.matches(BLOCKS)) return isSame;
  return isTag(other) && (isSame || other === speakers.find((tag) => isTag(tag) && said(tag, "site")));
}

/**
 * Read what a place says, or what is said for it.
 *
 * @param {Place} place
 * @param {string} name
 * @returns {string} empty where nobody says it
 */
export function get(place, name) {
  let node = /** @type {any} */ (place);
  while (node) {
    const own = said(node, name);
    if (own) return own;
    node = placeOf(node.parentElement) || placeOf(node.getRootNode().host);
  }
  const other = speakers.find((speaker) => said(speaker, name) && speaksFor(place, name, speaker));
  return other ? said(other, name) : "";
}

/**
 * Return the address below which the site of a place is counted, which tells sites apart.
 *
 * @param {Place} place
 */
export function siteUrl(place) {
  const site = get(place, "site");
  const server = get(place, "server");
  const { src = "" } = [/** @type {any} */ (place).tag || place, ...ran, ...speakers].find((tag) => tag.src) || {};
  const base = server ? parse(server.replace(/\/*$/, "/")).href : src.replace(/[^/]*([?#].*)?$/, "");
  if (!/^http/.test(base)) return warn('no server');
  const ascii = /[^ -~]/.test(site) && parse(`http://${site}`).hostname; // the one way to write it
  return `${base}v1/sites/${escape(ascii || site)}/`; // which takes any text; what is no name is refused
}
