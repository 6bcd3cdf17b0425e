/*
 * The front page without reloads: shows what the form chooses, copies tags, and shows the answer of
 * the service as it is. The service writes all of it, so without this script the same page works
 * with the form's button.
 */
const WAIT_MS = 3000;
/** What the answer to a choice replaces. */
const PARTS = ["#samples", "#snippet", "#pictures", "#pinned", "#counts"];

const form = document.querySelector("form");
const status = form.querySelector("[role=status]");

/** Whether the block has its numbers, or will not get any. */
const counted = new Promise((resolve) => {
  const live = document.querySelector("#live");
  const show = () => resolve((live.hidden = false));
  new MutationObserver(show).observe(live, { childList: true, subtree: true });
  setTimeout(resolve, WAIT_MS);
});

function offerCopies() {
  if (!navigator.clipboard) return; // http, other than of this machine
  for (const snippet of document.querySelectorAll(".snippet:not(:has(button))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Chép";
    button.setAttribute("aria-label", "Chép / Copy");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(snippet.querySelector("pre").textContent);
      button.textContent = "Đã chép";
      setTimeout(() => (button.textContent = "Chép"), 2000);
    });
    snippet.append(button);
  }
}

/** Show what depends on the numbers, after the block has counted. */
async function showNumbers() {
  const image = document.querySelector("img[data-badge]");
  image.src = image.dataset.badge;
  image.hidden = false;
  const json = document.querySelector("#json");
  const answer = await fetch(document.querySelector("#counts").href);
  json.textContent = JSON.stringify(await answer.json(), null, 2);
  json.hidden = false;
}

/** Make the scripts of a parsed part run, and drop what is for pages without scripts. */
function revive(part) {
  for (const fallback of part.querySelectorAll("noscript")) fallback.remove(); // here it would load
  for (const inert of part.querySelectorAll("script")) {
    const script = document.createElement("script");
    for (const { name, value } of inert.attributes) script.setAttribute(name, value);
    script.dataset.count = "false"; // this page was counted when it was opened
    inert.replaceWith(script);
  }
  return part;
}

let choices = 0;

async function choose() {
  const choice = ++choices;
  const query = new URLSearchParams(new FormData(form));
  const answer = await fetch(`/?${query}`);
  const text = await answer.text();
  if (choice !== choices) return; // there is a later one
  status.textContent = answer.ok ? "" : status.dataset[answer.status === 404 ? "unknown" : "failed"];
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const part of PARTS) document.querySelector(part).replaceWith(revive(page.querySelector(part)));
  offerCopies();
  await showNumbers();
}

const fail = () => (status.textContent = status.dataset.failed);

form.addEventListener("change", () => form.checkValidity() && choose().catch(fail));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  choose().catch(fail);
});
form.querySelector("button").hidden = true;
offerCopies();
await counted;
await showNumbers();
