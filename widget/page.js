/* Which page this is: its address, and the path that is counted. */
import { make } from "./make.js";
import { hasHash, queryNames } from "./places.js";
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

/**
 * Add to a path the parameters that name a page, as the service does: the first of each name, without empty ones.
 *
 * @param {string} path
 * @param {string} search of the address, as it came
 * @param {string} otherwise what to return where there is none of them
 */
function withQuery(path, search, otherwise = path) {
  const kept = queryNames().map((name) => {
    const parameters = search.slice(1).split("&");
    const first = parameters.find((parameter) => parameter.split("=")[0] === name) || "";
    return name && first.slice(name.length + 1) && `&${first}`;
  });
  const query = kept.join("").slice(1).replace(/\+/g, "%20").replace(/\?/g, "%3F");
  const folded = path.replace(/\/+/g, "/").replace(/(\/index\.html?)*\/?$/, "") || "/";
  return query ? folded + "%3F" + query : otherwise;
}

/** Return the page that a place names: its query is cut as that of an address. @param {string} page */
export const namedPage = (page) =>
  page.replace(/^([^?#]+)(\?[^#]*).*/, (all, path, search) => withQuery(path, search, all));

/**
 * Return the part of an address that names a page; the fragment only where a place says so.
 *
 * @param {string} href
 * @param {string | false} [path] instead of its own
 */
export function pageOf(href, path) {
  const { pathname, search, hash } = parse(href);
  const fragment = hasHash() ? hash.replace(/^#[!/]*$/, "") : "";
  return withQuery(path || pathname.replace(/(.)\/+$/, "$1"), search) + fragment.replace("#", "%23");
}

/** Return the page that the canonical link names, if it is one of the same host. @param {string} href */
export function canonicalPage(href) {
  const [link = {}] = findAll("link[rel=canonical]");
  const [, host, path] = /\/\/(?:www\.)?(.+?)(\/[^?#]*)/.exec(link.href) || [];
  return host === parse(href).host.replace("www.", "") && path;
}
