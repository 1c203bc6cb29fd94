// Comfort for the page that connects a property: it works without.
//
// Words and figures are the server's alone: what has changed is fetched as a page and put in its place.

const root = document.getElementById("connect");
const POLL = 1000;
const PATIENT_AFTER = 120;
const PATIENT_POLL = 10_000;

async function pageAt(address, signal) {
  const answer = await fetch(address, { signal, headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function replace(ids, page) {
  for (const id of ids) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (!old || !fresh) continue;
    Object.assign(old.dataset, fresh.dataset);
    old.replaceChildren(...document.adoptNode(fresh).childNodes); // what is live stays, so that changes are read out
  }
}

// A button that takes its time says so, and works once.

root.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button) return;
  if (root.dataset.sent) {
    event.preventDefault();
    return;
  }
  root.dataset.sent = "yes";
  button.setAttribute("aria-busy", "true");
  if (button.dataset.busy) [button.dataset.usual, button.textContent] = [button.textContent, button.dataset.busy];
});

addEventListener("pageshow", () => {
  delete root.dataset.sent;
  for (const button of root.querySelectorAll("[aria-busy]")) {
    button.removeAttribute("aria-busy");
    if (button.dataset.usual) button.textContent = button.dataset.usual;
  }
});

if (!root.querySelector("[autofocus]")) document.getElementById("connect-trouble")?.focus({ preventScroll: true });

// Prices follow the markup while it is typed.

const markup = document.getElementById("connect-markup");
if (markup) {
  const button = document.getElementById("connect-recalculate");
  button.hidden = true;
  let timer = 0;
  let asking = new AbortController();
  markup.addEventListener("input", () => {
    clearTimeout(timer);
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    timer = setTimeout(async () => {
      const query = new URLSearchParams(button.dataset.query);
      query.set("markup", markup.value);
      try {
        const page = await pageAt(`?${query}`, signal);
        replace(["connect-figures", "connect-nights", "connect-year", "connect-markup-wrong"], page);
        markup.toggleAttribute("aria-invalid", Boolean(page.querySelector("#connect-markup[aria-invalid]")));
      } catch (error) {
        if (error.name !== "AbortError") button.hidden = false;
      }
    }, 300);
  });
}

// How the connection fares, until it is well or needs somebody.

async function watch() {
  for (let looked = 0; ; looked += 1) {
    const status = document.getElementById("connect-status")?.dataset.status;
    if (status !== "syncing") return;
    await new Promise((done) => setTimeout(done, looked < PATIENT_AFTER ? POLL : PATIENT_POLL));
    try {
      const answer = await fetch(root.dataset.api, { headers: { Accept: "application/json" } });
      if (answer.status === 404) location.reload();
      if (!answer.ok || (await answer.json()).status === status) continue;
      replace(["connect-status", "connect-pull", "connect-push", "connect-pending"], await pageAt(location.href));
    } catch {
      // the service is away for a moment: ask again
    }
  }
}

watch();
