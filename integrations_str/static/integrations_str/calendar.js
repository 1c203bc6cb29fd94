// The calendar of a host: what is loaded when, and what the buttons, the keys and the live events do.

import {
  $, call, conflicts, PAGE, range, readBookings, readConflicts, readDays, readProperties, readProperty, root, rows, takeBooking,
} from "./calendar-data.js";
import * as grid from "./calendar-grid.js";
import * as pane from "./calendar-pane.js";
import { before, between, fill, monthOf, monthPlus, monthText, plus, soon, today, words } from "./calendar-words.js";

const CHUNK = 45;
const LONGEST = 370; // days in the page at once
const AHEAD = 24; // months in the list, as far as rates can be written down
const LONG_AWAY = 10_000;

const address = new URLSearchParams(location.search);
const only = address.get("property") ?? "";
let page = 1;
let loads = 0;

// Loading

async function start() {
  const mine = ++loads;
  [$("loading").hidden, $("nothing").hidden, $("failed").hidden] = [false, true, true];
  try {
    const count = await readProperties({ page, only });
    if (mine !== loads) return;
    showPages(count);
    $("nothing").hidden = count > 0;
    for (const part of ["scroll", "tools", "legend"]) $(part).hidden = !count;
    $("all").hidden = !only;
    if (count) await jump(/^20\d\d-\d\d-\d\d$/.test(address.get("from")) ? address.get("from") : grid.earliestToday());
  } catch (error) {
    $("failed").querySelector("strong").textContent = error.message;
    $("failed").hidden = false;
  } finally {
    $("loading").hidden = true;
  }
}

function showPages(count) {
  const [back, text, ahead] = $("pages").children;
  const last = Math.min(count, page * PAGE);
  [$("pages").hidden, back.disabled, ahead.disabled] = [count <= PAGE, page === 1, last === count];
  text.textContent = fill(words.pageOf, { first: (page - 1) * PAGE + 1, last, count });
}

/** The days from `date` on and no others. */
async function jump(date) {
  [range.start, range.end] = [date, plus(date, Math.max(CHUNK, grid.daysAcross() + 7))];
  fillMonths();
  grid.draw();
  $("scroll").scrollLeft = 0;
  showMonth();
  await read(range.start, range.end);
}

/** What the range has to show between two days: bookings for all at once, the days of each property by themselves. */
async function read(start, end) {
  const mine = loads;
  const given = [readBookings(null, start, end), readConflicts()].map((one) =>
    one.then(() => mine === loads && drawAll(), (error) => pane.say(error.message)),
  );
  const days = [...rows.values()].map((row) => readDays(row, start, end).then(() => mine === loads && drawRow(row)));
  await Promise.all([...given, ...days]);
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

/** Let the range reach `date`, if that does not make it too long. */
async function reach(date) {
  if (date < range.end) return true;
  const days = Math.ceil((between(range.end, date) + 1) / CHUNK) * CHUNK;
  if (between(range.start, range.end) + days > LONGEST) return false;
  const end = range.end;
  range.end = plus(end, days);
  grid.extend();
  read(end, range.end);
  return true;
}

async function go(date) {
  const isNear = date >= range.start && (date < range.end || (await reach(plus(date, 31))));
  if (isNear) await reach(plus(date, grid.daysAcross()));
  else await jump(date);
  grid.scrollTo(date);
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
  $("month").value = monthOf(grid.visibleDate());
}

// Deeds

const rowOf = (button) => rows.get(Number(button.closest("[data-property]")?.dataset.property)) ?? pane.shownRow();

const deeds = {
  start: () => start(),
  back: () => {
    const [date, month] = [grid.visibleDate(), monthOf(grid.visibleDate())];
    go(date > month ? month : monthPlus(month, -1));
  },
  ahead: () => go(monthPlus(monthOf(grid.visibleDate()), 1)),
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
  conflict: async (button) => {
    const found = conflicts.get(Number(button.dataset.conflict));
    if (found.from < range.start || found.from > grid.visibleDate()) await go(found.from === range.start ? found.from : before(found.from));
    grid.choose({ id: found.propertyId, anchor: found.from, head: before(found.to) });
    pane.showDays({ anew: true });
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
const look = soon(() => {
  showMonth();
  if (grid.daysAhead() < 10) reach(range.end);
}, 60);
$("scroll").addEventListener("scroll", look, { passive: true });

grid.listen({
  chosen: ({ byKey = false } = {}) => {
    pane.showDays();
    if (byKey) pane.focus();
  },
  moved: () => pane.isOpen() && pane.showDays(),
  wanted: reach,
});
pane.listen(drawRow);

// Live

const due = new Set(); // ids of properties whose days are to be read again
const readDue = soon(async () => {
  const some = [...due].map((id) => rows.get(id)).filter(Boolean);
  due.clear();
  await Promise.all([readConflicts().then(drawAll, () => {}), ...some.map((row) => readDays(row).then(() => drawRow(row)))]);
}, 150);

async function again(row) {
  await Promise.all([readProperty(row), readDays(row), readBookings(row.property.id)]).catch((error) => (row.error = error));
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
