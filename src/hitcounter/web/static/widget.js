/*
 * hitcounter: counts one hit of this page and draws the block of numbers where its tag stands:
 *
 *   <script async src="https://counter.example.vn/widget.js" data-site="demo"></script>
 *
 * data-lang="en" makes it English; a tag in <head> counts and draws no block. Any element with
 * data-hitcounter="today", "yesterday", "month", "year", "total" or "page" gets that number as its
 * text. Two tags of a site count once. No cookie, no storage; a failure leaves the page as it was.
 * Icons: Material icons by Google, Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0).
 */
(() => {
  const ICONS = {
    today:
      "M12 5.9a2.1 2.1 0 1 1 0 4.2 2.1 2.1 0 0 1 0-4.2m0 9c2.97 0 6.1 1.46 6.1 2.1v1.1H5.9V17c0-.64 3.13-2.1 6.1-2.1M12 4C9.79 4 8 5.79 8 8s1.79 4 4 4 4-1.79 4-4-1.79-4-4-4zm0 9c-2.67 0-8 1.34-8 4v3h16v-3c0-2.66-5.33-4-8-4z",
    yesterday:
      "M12 2c1.1 0 2 .9 2 2s-.9 2-2 2-2-.9-2-2 .9-2 2-2zm9 7h-6v13h-2v-6h-2v6H9V9H3V7h18v2z",
    month:
      "M12 2C6.48 2 2 6.48 2 12s4.48 10 10 10 10-4.48 10-10S17.52 2 12 2zm0 4c1.93 0 3.5 1.57 3.5 3.5S13.93 13 12 13s-3.5-1.57-3.5-3.5S10.07 6 12 6zm0 14c-2.03 0-4.43-.82-6.14-2.88a9.947 9.947 0 0 1 12.28 0C16.43 19.18 14.03 20 12 20z",
    year:
      "M19 3H5c-1.1 0-2 .9-2 2v14c0 1.1.9 2 2 2h14c1.1 0 2-.9 2-2V5c0-1.1-.9-2-2-2zm-7 3c1.93 0 3.5 1.57 3.5 3.5S13.93 13 12 13s-3.5-1.57-3.5-3.5S10.07 6 12 6zm7 13H5v-.23c0-.62.28-1.2.76-1.58C7.47 15.82 9.64 15 12 15s4.53.82 6.24 2.19c.48.38.76.97.76 1.58V19z",
    total:
      "M16.5 12c1.38 0 2.49-1.12 2.49-2.5S17.88 7 16.5 7a2.5 2.5 0 0 0 0 5zM9 11c1.66 0 2.99-1.34 2.99-3S10.66 5 9 5C7.34 5 6 6.34 6 8s1.34 3 3 3zm7.5 3c-1.83 0-5.5.92-5.5 2.75V19h11v-2.25c0-1.83-3.67-2.75-5.5-2.75zM9 13c-2.33 0-7 1.17-7 3.5V19h7v-2.25c0-.85.33-2.34 2.37-3.47C10.5 13.1 9.66 13 9 13z",
  };

  // Inline, so that a copied line reads "Trong ngày: 1.129": the space before the number is the only
  // one that justifying can stretch, which puts the numbers on the right edge.
  const CSS = `
    :host { display: block; max-width: 20rem; }
    section {
      all: initial; display: block; font: inherit; font-weight: 400; line-height: 1.5; overflow: hidden;
      color: #1f2a37; background: #fff; border: 1px solid #d3dae3; border-radius: .5em;
      --quiet: #526071; --accent: #14629f; --band: #f2f5f9;
    }
    h2 { margin: 0; padding: .5em .9em; font-size: 1em; font-weight: 600; background: var(--band); }
    ul { margin: 0; padding: .25em .9em; list-style: none; }
    li { padding: .3em 0; text-align-last: justify; font-variant-numeric: tabular-nums; }
    li + li { border-top: 1px solid var(--band); }
    li:last-child { font-weight: 600; }
    span { display: inline-block; text-align-last: start; color: var(--quiet); }
    svg { margin-inline-end: .5em; vertical-align: -.3em; color: var(--accent); }
    @media (prefers-color-scheme: dark) {
      section {
        color: #e7ecf2; background: #1b2129; border-color: #3a4451;
        --quiet: #aab6c4; --accent: #7db8ee; --band: #28313c;
      }
    }`;

  const script = document.currentScript;
  const { site, lang } = script.dataset;
  const origin = new URL(script.src).origin;

  const maker = (namespace) => (name, attributes, ...children) => {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const html = maker("http://www.w3.org/1999/xhtml");
  const svg = maker("http://www.w3.org/2000/svg");

  const icon = (key) =>
    svg(
      "svg",
      { viewBox: "0 0 24 24", width: 20, height: 20, fill: "currentColor", "aria-hidden": true },
      svg("path", { d: ICONS[key] }),
    );

  const line = ({ key, label, text }) =>
    html("li", {}, html("span", {}, icon(key), `${label}:`), ` ${text}`);

  const block = ({ lang, title, lines }) =>
    html(
      "section",
      { lang, "aria-label": title },
      html("h2", {}, title),
      html("ul", { role: "list" }, ...lines.map(line)), // Safari needs the role
    );

  // Whole and at once, so that the page moves only one time.
  function draw(widget) {
    const host = html("hit-counter", {});
    const root = host.attachShadow({ mode: "open" });
    // Allowed under style-src 'self', unlike <style>; browsers of before 2023 show plain lines.
    if (root.adoptedStyleSheets) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
      root.adoptedStyleSheets = [sheet];
    }
    root.append(block(widget));
    script.after(host);
  }

  function fill({ widget, page }) {
    const texts = new Map(widget.lines.map(({ key, text }) => [key, text]));
    if (page?.total) texts.set("page", new Intl.NumberFormat(widget.lang).format(page.total));
    for (const element of document.querySelectorAll("[data-hitcounter]")) {
      const text = texts.get(element.dataset.hitcounter);
      if (text) element.textContent = text;
    }
  }

  const once = (type) =>
    new Promise((resolve) => document.addEventListener(type, resolve, { once: true }));

  async function count() {
    if (document.prerendering) await once("prerenderingchange");
    const query = lang ? `?lang=${encodeURIComponent(lang)}` : "";
    // A string is sent as text/plain, which needs no CORS preflight.
    const response = await fetch(`${origin}/v1/sites/${encodeURIComponent(site)}/hits${query}`, {
      method: "POST",
      body: JSON.stringify({ path: location.pathname }),
      credentials: "omit",
      keepalive: true,
    });
    if (!response.ok) throw new Error(`the service answered ${response.status}`);
    return response.json();
  }

  async function show() {
    if (!site) throw new Error("the tag has no data-site");
    // All tags of a site in this document share one answer.
    const answers = (document[Symbol.for("hitcounter")] ??= new Map());
    const key = `${origin} ${site}`;
    if (!answers.has(key)) answers.set(key, count());
    const answer = await answers.get(key);
    if (!document.head.contains(script)) draw(answer.widget);
    if (document.readyState === "loading") await once("DOMContentLoaded");
    fill(answer);
  }

  show().catch((error) => console.warn(`hitcounter: nothing drawn: ${error.message}`));
})();
