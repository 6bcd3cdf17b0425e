// A script that does to our elements whatever comes to its mind, the same for the same seed. Never for
// ever: it ends by putting each place back where it was, alone, and then sets window.ended.
(() => {
  const { seed, duration_ms } = window.hostile;
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(random() * n);
  const one = (list) => list[below(list.length)];
  const all = (root, selector) => [...root.querySelectorAll(selector)];

  const main = document.querySelector("main");
  const slots = all(document, ".slot");
  const originals = slots.map((slot) => ({ html: slot.innerHTML, nodes: [...slot.childNodes] }));

  const OURS = "hit-counter, [data-hitcounter], .slot script";
  /** One of our elements, or something inside of it, also in its shadow tree. */
  function victim() {
    const element = one(all(document, OURS));
    if (!element || random() < 0.5) return element;
    return one([...all(element, "*"), ...(element.shadowRoot ? all(element.shadowRoot, "*") : [])]) ?? element;
  }
  const somewhere = () => one([main, ...slots]);

  const removed = [];
  const WORDS = ["", "…", "1,6 triệu", "0", "<b>1</b>", "NaN"];
  const DEEDS = [
    (element) => { element.textContent = one(WORDS); },
    (element) => { element.innerHTML = one(WORDS); },
    (element) => { element.remove(); removed.push(element); },
    () => { if (removed.length) somewhere().append(removed.splice(below(removed.length), 1)[0]); },
    (element) => somewhere().append(element.cloneNode(true)),
    (element) => somewhere().prepend(element.cloneNode(false)),
    (element) => somewhere().append(element),
    (element) => element.replaceWith(element.cloneNode(true)),
    (element) => { element.outerHTML = element.outerHTML; },
    () => { const slot = one(slots); slot.innerHTML = slot.innerHTML; },
    () => { main.append(one(slots)); },
    (element) => { for (const node of all(element, "*")) node.replaceWith(...node.childNodes); },
    (element) => element.shadowRoot?.replaceChildren(),
    (element) => { if (element.shadowRoot) element.shadowRoot.innerHTML = "<section><ul><li>9</li></ul></section>"; },
    (element) => element.setAttribute("data-state", one(["", "counted", "stale", "x"])),
    (element) => element.removeAttribute(one(["data-state", "hidden", "style", "class"])),
    (element) => { element.hidden = random() < 0.5; },
    (element) => element.normalize(),
    (element) => element.firstChild?.remove(),
    (element) => { if (element.firstChild) element.firstChild.nodeValue = one(WORDS); },
    (element) => element.append(one(WORDS)),
    () => { const html = main.innerHTML; main.innerHTML = html; slots.splice(0, slots.length, ...all(main, ".slot")); },
    () => history.replaceState({ n: below(9) }, ""),
    () => dispatchEvent(new PopStateEvent("popstate")),
    () => dispatchEvent(new Event("resize")),
  ];

  // Every third page has an observer that formats what others write, at once and every time.
  const format = (records) => {
    for (const { target } of records) {
      const place = target.parentElement?.closest("b[data-hitcounter]") ?? (target.matches?.("b[data-hitcounter]") ? target : null);
      if (place && /^[\d.]+$/.test(place.textContent)) place.textContent = `${place.textContent} lượt`;
    }
  };
  if (seed % 3 === 0) {
    new MutationObserver(format).observe(document, { childList: true, characterData: true, subtree: true });
  }

  function end() {
    const kept = slots.slice(0, originals.length);
    originals.forEach(({ html, nodes }, n) => {
      if (seed % 2) kept[n].innerHTML = html;
      else kept[n].replaceChildren(...nodes);
    });
    main.replaceChildren(...kept);
    for (const element of all(main, "[hidden]")) element.hidden = false;
    window.ended = true;
  }

  const until_ms = Date.now() + duration_ms;
  function act() {
    for (let n = below(4); n >= 0; n -= 1) {
      try { one(DEEDS)(victim()); } catch {} // its own mistakes are none of ours
    }
    if (Date.now() < until_ms) setTimeout(act, below(60));
    else end();
  }
  setTimeout(act, below(200));
})();
