/* Which page this is: its address, and the path that is counted. */
import { make } from "./make.js";
import { hasHash } from "./places.js";
import { findAll } from "./roots.js";

/** Read an address as the page's own links are read; one that is none has no host. @param {string} href */
export const parse = (href) => make("a", { href });

/**
 * Return the address of the page: of the one around it, if this document was written into its frame.
 *
 * @returns {string} empty where nothing counts: in a copy on a disk, say
 */
export function here() {
  try {
    /** @type {Window} */
    let frame = window;
    while (frame.location.href === "about:srcdoc") frame = frame.parent;
    const { href } = frame.location;
    return /^http/.test(href) ? href : "";
  } catch {
    return ""; // the page around it is none of ours to know
  }
}

/** Return the part of an address that names a page; the fragment only where a place says so. @param {string} href */
export function pageOf(href) {
  const { pathname, hash } = parse(href);
  const fragment = hasHash() ? hash.replace(/^#[!/]*$/, "") : "";
  return pathname.replace(/(.)\/+$/, "$1") + fragment.replace("#", "%23");
}

/** Return the page that the canonical link names, if it is one of the same host. @param {string} href */
export function canonicalPage(href) {
  const [link = {}] = findAll("link[rel=canonical]");
  const [, host, path] = /\/\/(?:www\.)?(.+?)(\/[^?#]*)/.exec(link.href) || [];
  return host === parse(href).host.replace("www.", "") && path;
}
