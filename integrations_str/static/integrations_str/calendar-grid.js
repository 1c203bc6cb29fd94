// The grid, however it is laid out: its days and bars as they are now, and the choice of days by mouse, finger and keys.
//
// A view lays it out, `timeline` or `months`; nothing else knows where a day stands. It has
//   along               "scrollLeft" or "scrollTop": which way the grid scrolls under a drag
//   draw(grid, drawn)   the frame of the range; for each row {name, lines: [line, ...], cells}
//   extend(drawn)       the same, for days that have come to the end of the range
//   rangeFor(date), endFor(date)         what is loaded to begin at a date, or to reach it
//   scrollTo(date), visibleDate(), daysShown(), daysAhead()
//   steps               key -> (place, ids) -> place
// A line is {start, end, column, node, bars}: days side by side, of which the first stands in a column.

import { $, conflictsOf, range, rows } from "./calendar-data.js";
import { drawBars, fillDay, fillName, makeDay, todayOf } from "./calendar-cells.js";
import { after, between, element, plus, span, today } from "./calendar-words.js";

const HOLD = 400; // milliseconds until a finger that rests chooses days instead of scrolling

const grid = $("grid");
const scroll = $("scroll");
const drawn = new Map(); // property id -> {name, lines, cells: date -> cell}
export let view = null;

/** {id, anchor, head}: the days between the two, both included; null: nothing is chosen. */
export let choice = null;
let at = null; // {id, date}: where the keyboard is
let tell = {};

export const firstOf = (chosen) => (chosen.anchor < chosen.head ? chosen.anchor : chosen.head);
export const lastOf = (chosen) => (chosen.anchor < chosen.head ? chosen.head : chosen.anchor);
export const earliestToday = () => [...rows.values()].map(todayOf).sort()[0] ?? today("Europe/Moscow");
const cellAt = (place) => place && drawn.get(place.id)?.cells.get(place.date);

// Drawing

export function use(other) {
  view = other;
}

export function draw() {
  drawn.clear();
  grid.replaceChildren();
  view.draw(grid, drawn);
  view.extend(drawn);
  const first = rows.values().next().value;
  if (first && !cellAt(at)) at = { id: first.property.id, date: [earliestToday(), range.start].sort()[1] };
  rows.forEach(fillRow);
  paint();
  markPlace();
}

/** The days that have come to the range. */
export function extend() {
  view.extend(drawn);
  rows.forEach(fillRow);
  paint();
}

/** A line of days; `node` gets them, and bars above them. */
export function makeLine(row, node, { start, end, column = 0 }) {
  const bars = element("div", "cal-bars");
  bars.ariaHidden = "true";
  node.append(bars);
  const line = { start, end: start, column, node, bars };
  lengthen(row, line, end);
  return line;
}

export function lengthen(row, line, end) {
  for (const date of span(line.end, end)) {
    const cell = makeDay(row, date);
    drawn.get(row.property.id).cells.set(date, cell);
    line.node.append(cell);
  }
  line.end = end;
}

export function fillRow(row) {
  const { name, lines, cells } = drawn.get(row.property.id);
  fillName(row, name);
  const clashes = conflictsOf(row);
  for (const cell of cells.values()) fillDay(row, cell, clashes);
  for (const line of lines) drawBars(row, line);
}

// The choice of days

export function choose(chosen) {
  choice = chosen;
  if (chosen) at = { id: chosen.id, date: chosen.head };
  paint();
  markPlace();
}

const reveal = (cell) => cell?.scrollIntoView({ block: "nearest", inline: "nearest" });

/** Show what is chosen, beside a pane that may have just covered a part of the grid. */
export const revealChoice = () => choice && reveal(cellAt({ id: choice.id, date: choice.head }));

function paint() {
  for (const cell of grid.querySelectorAll("[aria-selected=true]")) {
    cell.ariaSelected = "false";
    cell.classList.remove("is-from", "is-to");
  }
  if (!choice) return;
  const [first, last] = [firstOf(choice), lastOf(choice)];
  for (const date of span(first, after(last))) {
    const cell = cellAt({ id: choice.id, date });
    if (!cell) continue;
    cell.ariaSelected = "true";
    cell.classList.toggle("is-from", date === first);
    cell.classList.toggle("is-to", date === last);
  }
}

function markPlace() {
  grid.querySelector(".cal-day[tabindex='0']")?.setAttribute("tabindex", -1);
  const cell = cellAt(at);
  if (cell) cell.tabIndex = 0;
  return cell;
}

export function focusPlace() {
  markPlace()?.focus({ preventScroll: true });
}

// By mouse, or by a finger that has rested on a day

let drag = null; // {id, x, y}
let hold = 0;

/** The day of a property that is nearest to a point. */
function dayAt({ id, x, y }) {
  const away = (line) => {
    const { top, bottom } = line.node.getBoundingClientRect();
    return Math.max(top - y, y - bottom, 0);
  };
  const { cells, lines } = drawn.get(id);
  const line = lines.reduce((best, one) => (away(one) < away(best) ? one : best));
  const { left, width } = cells.get(line.start).getBoundingClientRect();
  const index = Math.floor((x - left) / width);
  return plus(line.start, Math.max(0, Math.min(between(line.start, line.end) - 1, index)));
}

function begin(cell, { clientX, clientY, shiftKey }) {
  const [id, date] = [Number(cell.dataset.property), cell.dataset.date];
  drag = { id, x: clientX, y: clientY };
  choose({ id, anchor: shiftKey && choice?.id === id ? choice.anchor : date, head: date });
  requestAnimationFrame(creep);
}

grid.addEventListener("pointerdown", (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.button) return;
  if (event.pointerType === "touch") {
    hold = setTimeout(() => begin(cell, event), HOLD);
    return;
  }
  event.preventDefault(); // no text is chosen
  begin(cell, event);
  focusPlace();
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  Object.assign(drag, { x: event.clientX, y: event.clientY });
  follow();
});
window.addEventListener("pointerup", () => {
  clearTimeout(hold);
  if (!drag) return;
  drag = null;
  tell.chosen();
});
window.addEventListener("pointercancel", () => {
  clearTimeout(hold); // the finger scrolls
  drag = null;
});
grid.addEventListener("touchmove", (event) => drag && event.preventDefault(), { passive: false });
grid.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());

function follow() {
  const head = dayAt(drag);
  if (head !== choice.head) choose({ ...choice, head });
}

/** At its edge the grid goes on under the mouse. */
function creep() {
  if (!drag) return;
  const [box, style, near, far] = [scroll.getBoundingClientRect(), getComputedStyle(scroll), ...edges[view.along]];
  const where = view.along === "scrollLeft" ? drag.x : drag.y;
  const inside = (edge) => (parseFloat(style.getPropertyValue(`scroll-padding-${edge}`)) || 0) + 4;
  const step = where > box[far] - inside(far) ? 8 : where < box[near] + inside(near) ? -8 : 0;
  if (step) {
    scroll[view.along] += step;
    follow();
  }
  requestAnimationFrame(creep);
}

const edges = { scrollLeft: ["left", "right"], scrollTop: ["top", "bottom"] };

grid.addEventListener("click", (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.pointerType !== "touch") return;
  choose({ id: Number(cell.dataset.property), anchor: cell.dataset.date, head: cell.dataset.date });
  tell.chosen();
});

// By keys

grid.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".cal-day");
  if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
  const place = { id: Number(cell.dataset.property), date: cell.dataset.date };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (choice?.id !== place.id) choose({ id: place.id, anchor: place.date, head: place.date });
    return tell.chosen({ byKey: true });
  }
  const next = view.steps[event.key]?.(place, [...rows.keys()]);
  if (!next) return;
  event.preventDefault();
  if (event.shiftKey && next.id !== place.id) return;
  if (!cellAt(next)) tell.wanted(next.date);
  const kept = choice?.id === place.id ? choice.anchor : place.date;
  choose({ id: next.id, head: next.date, anchor: event.shiftKey ? kept : next.date });
  reveal(cellAt(next));
  focusPlace();
  tell.moved();
});

/** `chosen`: days are; `moved`: the keys go over days; `wanted(date)`: the range shall reach so far. */
export function listen(listeners) {
  tell = listeners;
}
