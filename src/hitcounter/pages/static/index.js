// @ts-check
/*
 * The front page without reloads: shows what the form chooses, copies tags, and shows the answer of
 * the service as it is. The service writes all of it, so without this script the same page works
 * with the form's button.
 */
const WAIT_MS = 3000;
const TYPED_MS = 300;
/** What the answer to a choice replaces. */
const PARTS = ["#listed", "#samples", "#live", "#picture", "#counts"];
/** What it writes anew; the buttons beside it stay, as one may be being pressed. */
const CODES = ".snippet code";

/**
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {HTMLElement}
 */
function find(selector, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return found;
}

const form = /** @type {HTMLFormElement} */ (find("form"));
const status = find("[role=status]", form);
const site = /** @type {HTMLInputElement} */ (find("[name=site]", form));

/** When the block has its numbers, or will not get any. */
const counted = new Promise((resolve) => {
  new MutationObserver(resolve).observe(find("#live"), { childList: true, subtree: true });
  setTimeout(resolve, WAIT_MS);
});

/**
 * Name in what is to be copied the address of this page: no proxy has to tell it to the service.
 *
 * @param {ParentNode} part
 */
function correctAddresses(part) {
  const said = find("main").dataset.server ?? "";
  const found = new URL(".", location.href).href.replace(/\/$/, "");
  for (const code of part.querySelectorAll(CODES)) {
    code.textContent = (code.textContent ?? "").replaceAll(said, found);
  }
}

/** @param {Element} snippet */
function offerCopy(snippet) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Chép";
  button.title = "Copy";
  button.addEventListener("click", async () => {
    await chosen;
    await navigator.clipboard.writeText(find("pre", snippet).textContent ?? "");
    button.textContent = "Đã chép";
    setTimeout(() => {
      button.textContent = "Chép";
    }, 2000);
  });
  snippet.append(button);
}

function offerCopies() {
  if (!navigator.clipboard) return; // http, other than of this machine
  document.querySelectorAll(".snippet").forEach(offerCopy);
}

/** Show what depends on the numbers, after the block has counted. */
async function showNumbers() {
  const image = /** @type {HTMLImageElement} */ (find("img[data-badge]"));
  image.src = image.dataset.badge ?? "";
  image.hidden = false;
  const json = find("#json");
  const answer = await fetch(/** @type {HTMLAnchorElement} */ (find("#counts")).href);
  json.textContent = JSON.stringify(await answer.json(), null, 2);
  json.hidden = false;
}

/**
 * Take a part over from a parsed page, where nothing loads.
 *
 * @param {string} selector
 * @param {Document} page
 */
function takeOver(selector, page) {
  for (const fallback of page.querySelectorAll("noscript")) fallback.remove();
  const part = document.adoptNode(find(selector, page));
  for (const place of part.querySelectorAll("hit-counter")) {
    place.setAttribute("count", "false"); // this page was counted when it was opened
  }
  return part;
}

/** Return the site that a person names, also by an address. @param {string} text */
const siteName = (text) => text.trim().replace(/^[a-z]+:\/\/([^/?#]+).*$/i, "$1").toLowerCase();

/** What was chosen last, and when it is shown. */
let choice = "";
let chosen = Promise.resolve();

/** @param {string} query */
async function choose(query) {
  const answer = await fetch(`./?${query}`);
  const text = await answer.text();
  if (query !== choice) return; // there is a later one
  const { unknown = "", failed = "" } = status.dataset;
  status.textContent = answer.ok ? "" : answer.status < 500 ? unknown : failed;
  if (!answer.ok) {
    choice = ""; // the same may be tried again
    return;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  correctAddresses(page);
  const codes = page.querySelectorAll(CODES);
  document.querySelectorAll(CODES).forEach((code, nth) => {
    code.textContent = codes[nth].textContent;
  });
  for (const part of PARTS) find(part).replaceWith(takeOver(part, page));
  await showNumbers();
}

function update() {
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) fields.append(name, String(value));
  fields.set("site", siteName(site.value));
  const query = `${fields}`;
  if (query === choice) return;
  choice = query;
  chosen = choose(query).catch(() => {
    status.textContent = status.dataset.failed ?? "";
    choice = "";
  });
}

let typing = 0;
form.addEventListener("input", () => {
  clearTimeout(typing);
  if (site.value.includes("://")) site.value = siteName(site.value);
  if (form.checkValidity()) typing = setTimeout(update, TYPED_MS);
});
form.addEventListener("change", () => {
  clearTimeout(typing);
  site.value = siteName(site.value);
  if (form.reportValidity()) update();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  update();
});
find("button", form).hidden = true;
correctAddresses(document);
offerCopies();
await counted;
await showNumbers();

export {};
