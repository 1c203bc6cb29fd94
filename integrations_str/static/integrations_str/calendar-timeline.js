// The view of several properties under one another: a row each, the days across.

import { $, range, rows } from "./calendar-data.js";
import { earliestToday, lengthen, makeLine } from "./calendar-grid.js";
import {
  after, before, between, dayLong, element, isWeekend, monthAway, monthOf, monthPlus, monthText, plus, span, weekdayText, words,
} from "./calendar-words.js";

const CHUNK = 45;
const scroll = $("scroll");
let head = null;

export const along = "scrollLeft";

export function draw(grid, drawn) {
  head = element("div", "cal-head");
  head.role = "row";
  grid.append(head);
  for (const row of rows.values()) {
    const [node, name, lane] = [element("div", "cal-row"), element("div", "cal-name"), element("div", "cal-lane")];
    [node.role, name.role, lane.role] = ["row", "rowheader", "presentation"];
    node.dataset.property = row.property.id;
    node.append(name, lane);
    grid.append(node);
    const parts = { name, lines: [], cells: new Map() };
    drawn.set(row.property.id, parts);
    parts.lines.push(makeLine(row, lane, range));
  }
}

export function extend(drawn) {
  drawHead();
  for (const [id, { lines }] of drawn) lengthen(rows.get(id), lines[0], range.end);
}

function drawHead() {
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
  days.append(...span(range.start, range.end).map((date) => makeDate(date, date === now)));
  const lines = element("div", "cal-lines");
  lines.role = "presentation";
  lines.append(months, days);
  head.replaceChildren(corner, lines);
}

function makeDate(date, isToday) {
  const day = element("div", "cal-date");
  [day.role, day.ariaLabel] = ["columnheader", isToday ? `${dayLong(date)}, ${words.today}` : dayLong(date)];
  day.title = day.ariaLabel;
  day.classList.toggle("is-weekend", isWeekend(date));
  day.classList.toggle("is-today", isToday);
  day.append(element("b", "", String(Number(date.slice(8)))), element("span", "", weekdayText(date)));
  return day;
}

const width = () => scroll.querySelector(".cal-date")?.offsetWidth || 64;

export const rangeFor = (date) => [date, plus(date, Math.max(CHUNK, daysShown() + 7))];
export const endFor = (date) => plus(range.end, Math.ceil((between(range.end, date) + 1) / CHUNK) * CHUNK);
export const daysShown = () => Math.ceil(scroll.clientWidth / width());
export const daysAhead = () => (scroll.scrollWidth - scroll.scrollLeft - scroll.clientWidth) / width();
export const visibleDate = () => plus(range.start, Math.round(scroll.scrollLeft / width()));

export function scrollTo(date) {
  scroll.scrollLeft = between(range.start, date) * width();
}

const beside = (step) => ({ id, date }, ids) => ({ id: ids[ids.indexOf(id) + step] ?? id, date });

export const steps = {
  ArrowLeft: ({ id, date }) => ({ id, date: before(date) }),
  ArrowRight: ({ id, date }) => ({ id, date: after(date) }),
  ArrowUp: beside(-1),
  ArrowDown: beside(1),
  Home: ({ id, date }) => ({ id, date: monthOf(date) }),
  End: ({ id, date }) => ({ id, date: before(monthPlus(date, 1)) }),
  PageUp: ({ id, date }) => ({ id, date: monthAway(date, -1) }),
  PageDown: ({ id, date }) => ({ id, date: monthAway(date, 1) }),
};
