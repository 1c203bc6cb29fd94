// The grid: a row per property, days across, bookings as bars, and the choice of days by mouse, finger and keys.

import { $, bookingsIn, conflictsOf, range, root, rows } from "./calendar-data.js";
import {
  after, before, between, counted, dayLong, element, fill, icon, isWeekend, money, monthOf, monthPlus, monthText,
  plus, span, stayText, today, weekdayText, words,
} from "./calendar-words.js";

const grid = $("grid");
const scroll = $("scroll");
const drawn = new Map(); // property id -> {node, lane, bars, name, cells: date -> cell}

/** {id, anchor, head}: the days between the two, both included; null: nothing is chosen. */
export let choice = null;
let at = null; // {id, date}: where the keyboard is
let tell = {};

export const firstOf = (chosen) => (chosen.anchor < chosen.head ? chosen.anchor : chosen.head);
export const lastOf = (chosen) => (chosen.anchor < chosen.head ? chosen.head : chosen.anchor);
export const todayOf = (row) => today(row.property.timezone);

// Drawing

export function draw() {
  drawn.clear();
  grid.replaceChildren(element("div", "cal-head"));
  for (const row of rows.values()) {
    const node = element("div", "cal-row");
    const [name, lane, bars] = [element("div", "cal-name"), element("div", "cal-lane"), element("div", "cal-bars")];
    [node.role, name.role, lane.role, bars.ariaHidden] = ["row", "rowheader", "presentation", "true"];
    lane.append(bars);
    node.append(name, lane);
    node.dataset.property = row.property.id;
    grid.append(node);
    drawn.set(row.property.id, { node, name, lane, bars, cells: new Map() });
  }
  extend();
  const first = rows.values().next().value;
  if (first && !(at && drawn.get(at.id)?.cells.has(at.date))) at = { id: first.property.id, date: range.start };
  rows.forEach(fillRow);
  markPlace();
}

/** The days that have come to the range. */
export function extend() {
  drawHead();
  for (const [id, { lane, cells }] of drawn) {
    for (const date of span(range.start, range.end)) {
      if (cells.has(date)) continue;
      const cell = element("div", "cal-day is-empty");
      cell.append(element("b"), element("i"), element("small"));
      [cell.role, cell.tabIndex, cell.ariaSelected] = ["gridcell", -1, "false"];
      [cell.dataset.date, cell.dataset.property] = [date, id];
      cell.classList.toggle("is-weekend", isWeekend(date));
      cell.classList.toggle("is-first", date.endsWith("-01"));
      cells.set(date, cell);
      lane.append(cell);
    }
  }
  paint();
}

function drawHead() {
  const head = grid.firstElementChild;
  head.role = "row";
  const corner = element("div", "cal-corner", words.labels.corner);
  corner.role = "columnheader";
  const [months, days] = [element("div", "cal-months"), element("div", "cal-dates")];
  months.ariaHidden = "true";
  days.role = "presentation";
  for (let month = monthOf(range.start); month < range.end; month = monthPlus(month, 1)) {
    const [start, end] = [month > range.start ? month : range.start, monthPlus(month, 1) < range.end ? monthPlus(month, 1) : range.end];
    const block = element("div", "cal-month");
    block.style.setProperty("--days", between(start, end));
    block.append(element("span", "", monthText(month)));
    months.append(block);
  }
  const now = earliestToday();
  for (const date of span(range.start, range.end)) {
    const day = element("div", "cal-date");
    [day.role, day.ariaLabel] = ["columnheader", date === now ? `${dayLong(date)}, ${words.today}` : dayLong(date)];
    day.title = day.ariaLabel;
    day.classList.toggle("is-weekend", isWeekend(date));
    day.classList.toggle("is-today", date === now);
    day.classList.toggle("is-first", date.endsWith("-01"));
    day.append(element("b", "", String(Number(date.slice(8)))), element("span", "", weekdayText(date)));
    days.append(day);
  }
  const lines = element("div", "cal-lines");
  lines.role = "presentation";
  lines.append(months, days);
  head.replaceChildren(corner, lines);
}

export const earliestToday = () => [...rows.values()].map(todayOf).sort()[0] ?? today("Europe/Moscow");

export function fillRow(row) {
  const { name, cells, node } = drawn.get(row.property.id);
  fillName(row, name);
  const clashes = conflictsOf(row);
  for (const [date, cell] of cells) {
    const day = row.days.get(date);
    if (day) fillDay(row, cell, day, clashes.some((one) => one.from <= date && date < one.to));
  }
  node.classList.toggle("is-lost", Boolean(row.error));
  drawBars(row);
}

function fillDay(row, cell, day, clashes) {
  const { avito, minStay } = row.property;
  const shown = JSON.stringify([day, clashes, Boolean(avito), minStay]);
  if (cell.shown === shown) return;
  cell.shown = shown;
  const [price, channel, more] = cell.children;
  cell.classList.remove("is-empty");
  cell.classList.toggle("is-clash", clashes);
  cell.classList.toggle("is-special", day.price !== row.property.basePrice);
  [cell.dataset.reason, cell.dataset.sync] = [day.reason ?? "free", day.reason === "past" || !avito ? "" : day.sync];
  price.textContent = money(day.price);
  channel.textContent = avito && day.reason !== "past" ? money(day.channelPrice) : "";
  more.textContent = day.reason === "closed" ? words.closedShort : day.minStay === minStay ? "" : fill(words.minStay, { n: day.minStay });
  cell.ariaLabel = spoken(row, day, clashes).join(", ");
  cell.title = spoken(row, day, clashes).join("\n");
}

function spoken(row, day, clashes) {
  const isPast = day.reason === "past";
  return [
    dayLong(day.date),
    day.reason ? words.reasons[day.reason] : words.free,
    clashes && words.conflict,
    money(day.price),
    row.property.avito && !isPast && fill(words.atAvito, { price: money(day.channelPrice) }),
    fill(words.minStayLong, { nights: counted(words.nights, day.minStay) }),
    row.property.avito && !isPast && words.sync[day.sync],
  ].filter(Boolean);
}

function drawBars(row) {
  const { bars, node } = drawn.get(row.property.id);
  const ends = []; // of each level
  const made = bookingsIn(row, before(range.start), range.end).map((booking) => {
    const level = ends.findIndex((end) => end <= booking.checkIn);
    const place = level < 0 ? ends.length : level;
    ends[place] = booking.checkOut;
    return bar(booking, place);
  });
  bars.replaceChildren(...made);
  node.style.setProperty("--levels", Math.max(1, ends.length));
}

/** From the middle of the day of arrival to the middle of that of departure. */
function bar(booking, level) {
  const [start, end] = [between(range.start, booking.checkIn) + 0.5, between(range.start, booking.checkOut) + 0.5];
  const [from, to] = [Math.max(0, start), Math.min(end, between(range.start, range.end))];
  const made = element("button", "cal-bar");
  Object.assign(made, { type: "button", tabIndex: -1, title: barText(booking) });
  made.dataset.booking = booking.id;
  [made.dataset.source, made.dataset.status] = [booking.source, booking.status];
  made.classList.toggle("is-clash", booking.conflict);
  made.classList.toggle("is-cut", start < 0);
  for (const [name, value] of Object.entries({ from, nights: to - from, level })) made.style.setProperty(`--${name}`, value);
  made.append(element("span", "", called(booking)));
  return made;
}

export function called(booking) {
  const name = booking.guestName || words.noGuest;
  return booking.source === "avito" ? `${words.sources.avito} · ${name}` : name;
}

const barText = (booking) =>
  [
    booking.conflict && words.conflict,
    called(booking),
    `${stayText(booking)}, ${counted(words.nights, booking.nights)}`,
    booking.totalPrice !== null && money(booking.totalPrice),
    words.bookingStatuses[booking.status],
  ].filter(Boolean).join("\n");

// A property's name, and how its connection fares

function fillName(row, node) {
  const { property, error } = row;
  const { avito } = property;
  const title = element("a", "cal-title", property.name);
  if ("links" in root.dataset) title.href = `${root.dataset.properties}${property.id}/change/`;
  Object.assign(title, { title: [property.name, property.address, property.timezone].filter(Boolean).join("\n") });
  const line = element("div", "cal-facts");
  const status = element("button", "cal-status", words.statuses[avito ? avito.status : "none"]);
  Object.assign(status, { type: "button", title: avito ? (avito.lastError?.detail ?? words.remedies[avito.status]) : words.offNotConnected });
  [status.dataset.status, status.dataset.do] = [avito ? avito.status : "none", "connection"];
  if (avito) line.append(status);
  const buttons = element("div", "cal-buttons");
  if (avito) {
    buttons.append(
      ...(avito.isActive ? [button("sync", "sync", words.labels.sync)] : []),
      button("preview", "visibility", words.labels.preview),
      avito.isActive ? button("pause", "pause", words.pause) : button("pause", "play_arrow", words.resume),
    );
    if (avito.pendingDays) buttons.append(element("small", "cal-waiting", counted(words.waiting, avito.pendingDays)));
  } else {
    const connect = element("a", "cal-connect", words.labels.connect);
    connect.href = `${root.dataset.connect}${property.id}/connect/`;
    line.append(connect);
  }
  const clash = conflictsOf(row)[0];
  if (clash) {
    const warning = element("button", "cal-warning", words.conflict);
    warning.type = "button";
    [warning.dataset.do, warning.dataset.conflict] = ["conflict", clash.id];
    warning.prepend(icon("warning"));
    line.prepend(warning);
  }
  if (error) {
    const again = element("button", "cal-warning", words.loadFailed);
    Object.assign(again, { type: "button", title: error.message });
    again.dataset.do = "reload";
    again.prepend(icon("refresh"));
    line.prepend(again);
  }
  const had = node.contains(document.activeElement) ? document.activeElement.dataset.do : null;
  node.replaceChildren(title, line, buttons);
  if (had) node.querySelector(`[data-do=${had}]`)?.focus({ preventScroll: true });
}

function button(deed, sign, label) {
  const made = element("button", "cal-icon");
  Object.assign(made, { type: "button", title: label, ariaLabel: label });
  made.dataset.do = deed;
  made.append(icon(sign));
  return made;
}

// Where we are in time

const width = () => grid.querySelector(".cal-date")?.offsetWidth || 64;
const nameWidth = () => parseFloat(getComputedStyle(grid).getPropertyValue("--beside")) || 0;
export const visibleDate = () => plus(range.start, Math.round(scroll.scrollLeft / width()));
export const daysAhead = () => (scroll.scrollWidth - scroll.scrollLeft - scroll.clientWidth) / width();
export const daysAcross = () => Math.ceil(scroll.clientWidth / width());

export function scrollTo(date) {
  scroll.scrollLeft = between(range.start, date) * width();
}

function reveal(date) {
  const [left, size] = [between(range.start, date) * width(), width()];
  const room = scroll.clientWidth - nameWidth();
  if (left < scroll.scrollLeft) scroll.scrollLeft = left;
  else if (left + size > scroll.scrollLeft + room) scroll.scrollLeft = left + size - room;
}

// The choice of days

export function choose(chosen) {
  choice = chosen;
  if (chosen) at = { id: chosen.id, date: chosen.head };
  paint();
  markPlace();
}

/** Show what is chosen, beside a pane that may have just covered a part of the grid. */
export const revealChoice = () => choice && reveal(choice.head);

function paint() {
  for (const cell of grid.querySelectorAll("[aria-selected=true]")) [cell.ariaSelected, cell.className] = ["false", cell.className.replace(/ is-(from|to)\b/g, "")];
  if (!choice) return;
  const [first, last] = [firstOf(choice), lastOf(choice)];
  for (const date of span(first, after(last))) {
    const cell = drawn.get(choice.id)?.cells.get(date);
    if (!cell) continue;
    cell.ariaSelected = "true";
    if (date === first) cell.classList.add("is-from");
    if (date === last) cell.classList.add("is-to");
  }
}

function markPlace() {
  grid.querySelector(".cal-day[tabindex='0']")?.setAttribute("tabindex", -1);
  const cell = at && drawn.get(at.id)?.cells.get(at.date);
  if (cell) cell.tabIndex = 0;
  return cell;
}

export function focusPlace() {
  markPlace()?.focus({ preventScroll: true });
}

let drag = null; // {id, lane, x}

const dateAt = (lane, x) => {
  const index = Math.floor((x - lane.getBoundingClientRect().left) / width());
  return plus(range.start, Math.max(0, Math.min(between(range.start, range.end) - 1, index)));
};

grid.addEventListener("pointerdown", (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.button || event.pointerType === "touch") return; // a finger scrolls
  const id = Number(cell.dataset.property);
  drag = { id, lane: drawn.get(id).lane, x: event.clientX };
  event.preventDefault(); // no text is chosen
  choose({ id, anchor: event.shiftKey && choice?.id === id ? choice.anchor : cell.dataset.date, head: cell.dataset.date });
  focusPlace();
  requestAnimationFrame(creep);
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  drag.x = event.clientX;
  follow();
});
window.addEventListener("pointerup", () => {
  if (!drag) return;
  drag = null;
  tell.chosen();
});
window.addEventListener("pointercancel", () => (drag = null));

function follow() {
  const head = dateAt(drag.lane, drag.x);
  if (head !== choice.head) choose({ ...choice, head });
}

/** At the edge the grid goes on under the mouse. */
function creep() {
  if (!drag) return;
  const box = scroll.getBoundingClientRect();
  const [left, right] = [box.left + nameWidth() + 16, box.right - 16];
  if (drag.x > right || drag.x < left) {
    scroll.scrollLeft += drag.x > right ? 8 : -8;
    follow();
  }
  requestAnimationFrame(creep);
}

grid.addEventListener("click", (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.pointerType !== "touch") return;
  choose({ id: Number(cell.dataset.property), anchor: cell.dataset.date, head: cell.dataset.date });
  tell.chosen();
});

grid.addEventListener("keydown", async (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
  const [id, date] = [Number(cell.dataset.property), cell.dataset.date];
  const ids = [...rows.keys()];
  const beside = (step) => ids[Math.max(0, Math.min(ids.length - 1, ids.indexOf(id) + step))];
  const steps = {
    ArrowLeft: () => ({ id, date: before(date) }),
    ArrowRight: () => ({ id, date: after(date) }),
    ArrowUp: () => ({ id: beside(-1), date }),
    ArrowDown: () => ({ id: beside(1), date }),
    Home: () => ({ id, date: monthOf(date) }),
    End: () => ({ id, date: before(monthPlus(date, 1)) }),
    PageUp: () => ({ id, date: monthPlus(date, -1) }),
    PageDown: () => ({ id, date: monthPlus(date, 1) }),
  };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (!choice || choice.id !== id) choose({ id, anchor: date, head: date });
    return tell.chosen({ byKey: true });
  }
  if (!steps[event.key]) return;
  event.preventDefault();
  const next = steps[event.key]();
  if (next.date < range.start) next.date = range.start;
  if (next.date >= range.end && !(await tell.wanted(next.date))) next.date = before(range.end);
  if (event.shiftKey && next.id !== id) return;
  choose({ id: next.id, head: next.date, anchor: event.shiftKey && choice?.id === id ? choice.anchor : next.date });
  reveal(next.date);
  focusPlace();
  drawn.get(next.id).node.scrollIntoView({ block: "nearest", inline: "nearest" });
  reveal(next.date);
  tell.moved();
});

/** `chosen`: days are; `moved`: the keys go over days; `wanted(date)`: the range shall reach so far, true once it does. */
export function listen(listeners) {
  tell = listeners;
}
