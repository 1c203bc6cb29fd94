// Refreshes what lives on the page every few seconds; focus, place and a selection stay as they are.

const page = document.getElementById("system");
const offline = document.getElementById("system-offline");
const said = document.getElementById("system-said");
const live = document.getElementById("system-live");
const EVERY = 5000;
let timer = 0;

live.hidden = false;
live.firstElementChild.addEventListener("change", later);
document.addEventListener("visibilitychange", () => document.hidden || refresh());

function later() {
  clearTimeout(timer);
  timer = setTimeout(refresh, EVERY);
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden || !live.firstElementChild.checked) return later();
  try {
    const answer = await fetch(page.dataset.part, { signal: AbortSignal.timeout(10000) });
    const isOut = answer.redirected || answer.status === 403;
    offline.hidden = answer.ok && !isOut;
    offline.querySelector("[data-text]").hidden = isOut;
    offline.querySelector("a").hidden = !isOut;
    if (answer.ok && !isOut) show(await answer.text());
  } catch {
    offline.hidden = false;
  }
  later();
}

function show(text) {
  const before = problems(document);
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[data-live]")) replace(document.getElementById(part.id), part);
  const after = problems(document);
  const news = after.filter((one) => !before.includes(one));
  if (news.length) said.textContent = news.join(" ");
  else if (before.length && !after.length) said.textContent = said.dataset.well;
}

function problems(root) {
  return [...root.querySelectorAll("[data-problem]")].map((one) => one.textContent);
}

function replace(old, part) {
  const selection = getSelection();
  if (old.innerHTML === part.innerHTML) return;
  if (!selection.isCollapsed && old.contains(selection.anchorNode)) return;
  const focused = old.contains(document.activeElement) ? key(document.activeElement) : null;
  old.replaceChildren(...part.childNodes);
  if (focused === null) return;
  const again = [...old.querySelectorAll("a, button")].find((one) => key(one) === focused);
  again?.focus({ preventScroll: true });
}

function key(element) {
  return `${element.tagName} ${element.getAttribute("href") ?? element.value}`;
}

later();
