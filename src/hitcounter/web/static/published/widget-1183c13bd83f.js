// hitcounter, MIT
(() => {
  const script = /** @type {any} */ (document.currentScript);
  const first = customElements.get("hit-counter");
  if (first) return first.add(script);

  const ICONS = {
    __proto__: null,
    today: "M6 1a5 5 0 1 0 .1 0M6 3v3h2",
    yesterday: "M2 2v3h3M2 5a4 4 0 1 1 1 4",
    month: "M1 3h10v8H1zM1 5h10M4 1v3M8 1v3",
    year: "M2 11V7M6 11V4M10 11V1",
    total: "M6 1a2 2 0 1 0 .1 0M1 11c0-5 10-5 10 0",
  };
  const CSS = `
    :host { display: block !important }
    :host([hidden]) { display: none !important }
    section {
      all: initial; display: flow-root; max-width: 20em; border: 1px solid #8886; border-radius: .5em;
      font: inherit; font-size: max(14px, 1em); line-height: 1.5;
      color: CanvasText; background: Canvas; color-scheme: light dark;
    }
    h2, ul { margin: 0; padding: .5em 4%; font-size: 1em }
    h2 { border-bottom: 1px solid #8886 }
    li { display: block; padding: .2em 0; text-align-last: justify }
    span { display: inline-block; text-align-last: start }
    svg { width: min(1.6em, 99 * (100% - 13em)); vertical-align: -.2em; fill: none; stroke: #48c }
  `;

  const blocks = new Set();
  const answers = new Map();
  let asked = new Map();

  const address = () => location.pathname.replace(/\/+$/, "");
  let current = address();
  let isFirst = true;

  function page() {
    const link = /** @type {any} */ (document.querySelector("link[rel=canonical]"));
    const [, host, path] = /\/\/(?:www\.)?(.+?)(\/[^?#]*)/.exec(link?.href) ?? [];
    return isFirst && host === location.host.replace("www.", "") ? path : location.pathname;
  }

  const once = (type) => new Promise((resolve) => document.addEventListener(type, resolve));

  function make(name, attributes, ...children) {
    const element = /svg|path/.test(name)
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    element.append(...children);
    return element;
  }

  async function ask(url, body) {
    const start = Date.now();
    let status = 0;
    for (const wait_ms of [0, 2000, 4000]) {
      if (wait_ms) await new Promise((resolve) => setTimeout(resolve, wait_ms));
      if (Date.now() - start > 3e5) break;
      try {
        const signal = AbortSignal.timeout?.(9000);
        const response = await fetch(url, { method: body && "POST", body, keepalive: true, signal });
        status = response.status;
        const answer = await response.json();
        if (answer.widget?.lines) return answer;
        if (status < 500) break;
      } catch {}
    }
    console.warn("hitcounter:", url, status);
  }

  function fill() {
    for (const place of document.querySelectorAll("[data-hitcounter]")) {
      const { hitcounter, site } = /** @type {any} */ (place).dataset;
      const [answer] = site ? [answers.get(site)] : answers.values();
      const value = hitcounter === "page" ? answer?.page?.total : ICONS[hitcounter] && answer?.[hitcounter];
      const text = value?.toLocaleString(answer.widget.lang);
      if (text && place.textContent !== text) place.textContent = text;
    }
    for (const block of blocks) {
      if (!block.isConnected) document.querySelector(`:is(${block.tag.dataset.target})`)?.append(block);
    }
  }

  class HitCounter extends HTMLElement {
    tag = script;

    static add(tag, block = new HitCounter()) {
      const { site, target } = tag.dataset;
      if (!site) return;
      block.tag = tag;
      if (!target && tag.closest("body")) return tag.after(block);
      block.connectedCallback();
      fill();
    }

    get(name) {
      return this.getAttribute(name) ?? this.tag.dataset[name];
    }

    connectedCallback() {
      if (!this.get("site")) return;
      blocks.add(this);
      if (!this.dataset.state) this.draw({});
      this.ask();
    }

    disconnectedCallback() {
      if (this !== main) blocks.delete(this);
    }

    async ask() {
      if (document.prerendering) await once("prerenderingchange");
      if (!document.body) await once("DOMContentLoaded");
      const path = this.get("page") ?? page();
      const query = this.get("lang") ? `lang=${this.get("lang")}` : "";
      const url = new URL(`/v1/sites/${this.get("site")}/`, this.tag.src).href;
      const counts = `${url}counts?${query}&path=${encodeURIComponent(path)}`;
      const view = asked;
      if (!(this.get("count") === "false" || view.has(url))) {
        const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
        const hit = ask(`${url}hits?${query}`, JSON.stringify({ path, id }));
        view.set(url, hit).set(counts, hit);
        for (const block of blocks) block.ask();
        return;
      }
      await view.get(url);
      if (!view.has(counts)) view.set(counts, ask(counts));
      const promise = view.get(counts);
      const answer = await promise;
      if (asked.get(counts) !== promise) return;
      if (answer) {
        answers.set(answer.site, answer);
        this.draw(answer);
        fill();
      } else if (this.dataset.state) this.dataset.state = "stale";
      else this.hidden = true;
    }

    draw({ state = "", widget: { lang = "", title = "\xa0", lines = [] } = {} }) {
      this.dataset.state = state;
      this.hidden = false;
      const theme = this.get("theme");
      const isPlain = theme === "plain" || !document.adoptedStyleSheets;
      const row = (key) => {
        const { label = title, text = title } = lines.find((line) => line.key === key) ?? {};
        const path = make("path", { d: ICONS[key] });
        const icon = make("svg", { viewBox: "0 0 17 12", "aria-hidden": true }, path);
        return make("li", {}, isPlain ? "" : icon, make("span", {}, `${label}:`), ` ${text}`);
      };
      const keys = this.get("lines")?.match(/\w+/g) ?? Object.keys(ICONS);
      const n = [...document.querySelectorAll("hit-counter")].indexOf(this);
      const section = make(
        "section",
        { lang, dir: "auto", "aria-label": title + (n > 0 ? ` ${n + 1}` : "") },
        make("h2", {}, title),
        make("ul", { role: "list" }, ...keys.filter((key) => ICONS[key]).map(row)),
      );
      if (!state) section.style.visibility = "hidden";
      if (isPlain) this.replaceChildren(section);
      else {
        const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(CSS);
        root.adoptedStyleSheets = [sheet];
        if ("light dark".includes(theme)) section.style.colorScheme = theme;
        root.replaceChildren(section);
      }
    }
  }

  function begin() {
    asked = new Map();
    answers.clear();
    for (const block of blocks) block.ask();
  }

  function moved() {
    if (address() === current) return;
    current = address();
    isFirst = false;
    for (const place of document.querySelectorAll("[data-hitcounter=page]")) place.textContent = "";
    begin();
  }
  addEventListener("popstate", moved);
  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    history[name] = (...args) => {
      original.apply(history, args);
      moved();
    };
  }
  addEventListener("pageshow", ({ persisted }) => persisted && begin());
  new MutationObserver(fill).observe(document, { childList: true, subtree: true });

  customElements.define("hit-counter", HitCounter);
  const main = new HitCounter();
  HitCounter.add(script, main);
})();
