// The calendar of a host: what is loaded when, and what the buttons, the keys and the live events do.

import {
  $, call, conflicts, PAGE, range, readBookings, readConflicts, readDays, readProperties, readProperty, root, rows, takeBooking,
} from "./calendar-data.js";
import * as grid from "./calendar-grid.js";
import * as months from "./calendar-months.js";
import * as pane from "./calendar-pane.js";
import * as timeline from "./calendar-timeline.js";
import { before, between, fill, monthOf, monthPlus, monthText, plus, soon, today, words } from "./calendar-words.js";

const LONGEST = 400; // days in the page at once
const AHEAD = 24; // months in the list, as far as rates can be written down
const LONG_AWAY = 10_000;

const address = new URLSearchParams(location.search);
const only = address.get("property") ?? "";
const views = { timeline, months };
let page = 1;
let loads = 0;

// Loading

async function start() {
  const mine = ++loads;
  [$("loading").hidden, $("nothing").hidden, $("failed").hidden] = [false, true, true];
  for (const part of ["scroll", "tools", "legend", "place"]) $(part).hidden = true;
  try {
    const count = await readProperties({ page, only });
    if (mine !== loads) return;
    showPages(count);
    $("nothing").hidden = count > 0;
    for (const part of ["scroll", "tools", "legend"]) $(part).hidden = !count;
    [$("all").hidden, $("views").hidden] = [!only, count !== 1];
    if (!count) return;
    use(count === 1 && address.get("view") === "months" ? "months" : "timeline");
    const from = address.get("from");
    jump(/^20\d\d-\d\d-\d\d$/.test(from) ? from : grid.earliestToday());
  } catch (error) {
    const [text, again, all] = $("failed").querySelectorAll("strong, button, a");
    text.textContent = error.status === 404 ? words.noSuchProperty : error.message;
    [$("failed").hidden, again.hidden, all.hidden] = [false, error.status === 404, !only];
  } finally {
    if (mine === loads) $("loading").hidden = true;
  }
}

function use(name) {
  grid.use(views[name]);
  root.dataset.view = name;
  $("place").hidden = name !== "months";
  $("views").querySelector(`[value=${name}]`).checked = true;
}

function showPages(count) {
  const [back, text, ahead] = $("pages").children;
  const last = Math.min(count, page * PAGE);
  [$("pages").hidden, back.disabled, ahead.disabled] = [count <= PAGE, page === 1, last === count];
  text.textContent = fill(words.pageOf, { first: (page - 1) * PAGE + 1, last, count });
}

/** The days from `date` on, about as many as are seen, and no others. */
function jump(date) {
  [range.start, range.end] = grid.view.rangeFor(date);
  fillMonths();
  grid.draw();
  [$("scroll").scrollLeft, $("scroll").scrollTop] = [0, 0];
  grid.view.scrollTo(date);
  showMonth();
  read(range.start, range.end);
}

/** What the range has to show between two days: bookings for all at once, the days of each property by themselves. */
async function read(start, end) {
  const mine = loads;
  $("grid").ariaBusy = "true";
  const given = [readBookings(undefined, start, end), readConflicts()].map((one) => one.then(() => mine === loads && drawAll()));
  const days = [...rows.values()].map((row) => readDays(row, start, end).then(() => mine === loads && drawRow(row)));
  await Promise.all([...given, ...days]);
  $("grid").ariaBusy = "false";
}

function drawAll() {
  rows.forEach(grid.fillRow);
  pane.refresh();
}

function drawRow(row) {
  if (rows.get(row.property.id) !== row) return;
  grid.fillRow(row);
  if (pane.shownRow() === row) pane.refresh();
}

/** Let the range reach ahead to `date`, if that does not make it too long. */
function reach(date) {
  if (date < range.end) return true;
  const [end, until] = [range.end, grid.view.endFor(date)];
  if (between(range.start, until) > LONGEST) return false;
  range.end = until;
  grid.extend();
  read(end, range.end);
  return true;
}

/** Have `date` drawn, if need be with other days around it than before; false: they are others. */
function wanted(date) {
  if (date >= range.start && reach(date)) return true;
  jump(date);
  return false;
}

function go(date) {
  if (!wanted(date)) return;
  reach(plus(date, grid.view.daysShown()));
  grid.view.scrollTo(date);
  showMonth();
}

// Months

function fillMonths() {
  const now = monthOf(grid.earliestToday());
  const first = [monthPlus(now, -12), monthOf(range.start)].sort()[0];
  const months = [];
  for (let month = first; month <= monthPlus(now, AHEAD); month = monthPlus(month, 1)) months.push(new Option(monthText(month), month));
  $("month").replaceChildren(...months);
}

function showMonth() {
  $("month").value = monthOf(grid.view.visibleDate());
}

// Deeds

const rowOf = (button) => rows.get(Number(button.closest("[data-property]")?.dataset.property)) ?? pane.shownRow();

const deeds = {
  start: () => start(),
  back: () => {
    const [date, month] = [grid.view.visibleDate(), monthOf(grid.view.visibleDate())];
    go(date > month ? month : monthPlus(month, -1));
  },
  ahead: () => go(monthPlus(monthOf(grid.view.visibleDate()), 1)),
  today: () => go(grid.earliestToday()),
  "page-back": () => turn(-1),
  "page-ahead": () => turn(1),
  help: () => pane.showHelp(),
  leave: () => leave(),
  days: () => pane.showDays({ anew: true }),
  new: () => {
    pane.showNew();
    pane.focus();
  },
  booking: (button) => openBooking(Number(button.dataset.booking)),
  cancel: () => pane.cancelBooking(),
  connection: (button) => pane.showConnection(rowOf(button)),
  preview: (button) => pane.showPreview(rowOf(button)),
  sync: (button) => pane.sync(rowOf(button)),
  pause: (button) => pane.pause(rowOf(button)),
  allow: (button) => pane.allow(rowOf(button)),
  reconnect: (button) => pane.reconnect(rowOf(button)),
  reload: (button) => again(rowOf(button)),
  conflict: (button) => {
    const found = conflicts.get(Number(button.dataset.conflict));
    if (found.from < range.start || found.from > grid.view.visibleDate()) go(found.from === range.start ? found.from : before(found.from));
    grid.choose({ id: found.propertyId, anchor: found.from, head: before(found.to) });
    pane.showDays({ anew: true });
    grid.revealChoice();
  },
};

function turn(step) {
  page += step;
  pane.close();
  start();
}

function leave() {
  pane.close();
  grid.focusPlace();
}

function openBooking(id) {
  const row = [...rows.values()].find((one) => one.bookings.has(id));
  if (!row) return;
  grid.choose(null);
  pane.showBooking(row.bookings.get(id));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) return void deeds[button.dataset.do](button);
  const bar = event.target.closest(".cal-bar");
  if (bar) openBooking(Number(bar.dataset.booking));
});
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const isTyping = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && pane.isOpen()) {
    if (event.target.closest("#cal-pane form")) grid.focusPlace(); // what was typed stays; once more closes it
    else leave();
  }
  if (event.key === "?" && !isTyping) pane.showHelp();
});
$("month").addEventListener("change", ({ target }) => {
  const now = grid.earliestToday();
  go(target.value === monthOf(now) ? now : target.value);
});
$("views").addEventListener("change", ({ target }) => {
  const [seen, now] = [grid.view.visibleDate(), grid.earliestToday()];
  address.set("view", target.value);
  history.replaceState(null, "", `?${address}`);
  use(target.value);
  jump(grid.choice ? grid.firstOf(grid.choice) : monthOf(seen) === monthOf(now) ? now : seen);
  grid.revealChoice();
});
const look = soon(() => {
  showMonth();
  if (grid.view.daysAhead() < 21) reach(range.end);
}, 60);
$("scroll").addEventListener("scroll", look, { passive: true });

grid.listen({
  chosen: ({ byKey = false } = {}) => {
    pane.showDays();
    if (byKey) pane.focus();
  },
  moved: () => pane.isOpen() && pane.showDays(),
  wanted,
});
pane.listen(drawRow);

// Live

const due = new Set(); // ids of properties whose days are to be read again
const readDue = soon(async () => {
  const some = [...due].map((id) => rows.get(id)).filter(Boolean);
  due.clear();
  await Promise.all([readConflicts().then(drawAll), ...some.map((row) => readDays(row).then(() => drawRow(row)))]);
}, 150);

async function again(row) {
  await Promise.all([readProperty(row), readDays(row), readBookings([row]), readConflicts()]);
  drawRow(row);
}

function takeBookingEvent(booking) {
  const row = takeBooking(booking);
  if (!row) return;
  drawRow(row);
  due.add(row.property.id);
  readDue();
}

/** A connection tells of itself with every reading; the days are read again only where something has come of it. */
function takeIntegrationEvent(integration) {
  const row = [...rows.values()].find((one) => one.property.id === integration.propertyId || one.property.avito?.id === integration.id);
  if (!row) return;
  if (!integration.propertyId) return void again(row); // it is gone
  const matters = ({ id, status, lastPushAt, pendingDays, isActive, markupPercent }) =>
    JSON.stringify([id, status, lastPushAt, pendingDays, isActive, markupPercent]);
  const isNews = !row.property.avito || matters(row.property.avito) !== matters(integration);
  row.property.avito = integration;
  drawRow(row);
  if (!isNews) return;
  due.add(row.property.id);
  readDue();
}

let source = null;
let lastEvent = "";
let awaySince = 0;
let pauseBefore = 1000;
let retry = 0;
let barLater = 0;

function listen() {
  source?.close();
  clearTimeout(retry);
  source = new EventSource(`${root.dataset.api}/events${lastEvent ? `?lastEventId=${lastEvent}` : ""}`);
  const takes = { "integration.updated": takeIntegrationEvent };
  for (const what of ["created", "updated", "cancelled", "conflict"]) takes[`booking.${what}`] = takeBookingEvent;
  for (const [type, take] of Object.entries(takes)) {
    source.addEventListener(type, (event) => {
      lastEvent = event.lastEventId;
      take(JSON.parse(event.data));
    });
  }
  source.addEventListener("open", () => {
    clearTimeout(barLater);
    [$("offline").hidden, pauseBefore] = [true, 1000];
    if (awaySince && (!lastEvent || Date.now() - awaySince > LONG_AWAY)) rows.forEach(again);
    awaySince = 0;
  });
  source.addEventListener("error", () => lost(source.readyState === EventSource.CLOSED));
}

function lost(isRefused) {
  awaySince ||= Date.now();
  clearTimeout(barLater);
  barLater = setTimeout(() => ($("offline").hidden = false), navigator.onLine ? 700 : 0);
  if (!isRefused) return; // the browser tries by itself
  clearTimeout(retry);
  retry = setTimeout(listen, pauseBefore);
  pauseBefore = Math.min(pauseBefore * 2, 30_000);
  const link = $("offline").querySelector("a");
  call("GET", "/auth/me").then(() => (link.hidden = true), (error) => (link.hidden = error.status !== 401));
}

window.addEventListener("offline", () => lost(false));
window.addEventListener("online", () => listen());
window.addEventListener("pageshow", (event) => event.persisted && listen());
window.addEventListener("pagehide", () => source?.close());
let day = today("Europe/Moscow");
setInterval(() => {
  if (day === today("Europe/Moscow")) return;
  day = today("Europe/Moscow");
  grid.draw();
  rows.forEach(again);
}, 60_000);

listen();
start();
