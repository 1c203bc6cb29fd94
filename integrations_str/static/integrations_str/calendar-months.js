// The view of one property by months: weeks as rows, months under one another.

import { $, range, rows } from "./calendar-data.js";
import { makeLine } from "./calendar-grid.js";
import {
  element, monday, monthAway, monthOf, monthPlus, monthText, number, plus, span, weekdayLong, weekdayText,
} from "./calendar-words.js";

const AT_ONCE = 3;
const scroll = $("scroll");
const place = $("place");
let grid = null;

export const along = "scrollTop";

export function draw(given, drawn) {
  grid = given;
  const week = element("div", "cal-weekdays");
  week.role = "row";
  const first = monday(range.start);
  week.append(...span(first, plus(first, 7)).map(makeWeekday));
  grid.append(week);
  const { property } = rows.values().next().value;
  place.dataset.property = property.id;
  drawn.set(property.id, { name: place, lines: [], cells: new Map() });
}

function makeWeekday(date) {
  const day = element("div", "", weekdayText(date));
  [day.role, day.ariaLabel] = ["columnheader", weekdayLong(date)];
  return day;
}

export function extend(drawn) {
  const [id, { lines }] = drawn.entries().next().value;
  for (let month = lines.at(-1)?.end ?? range.start; month < range.end; month = monthPlus(month, 1)) {
    lines.push(...drawMonth(rows.get(id), month));
  }
}

/** The lines of a month, a week each; the first and the last are as long as the month goes. */
function drawMonth(row, month) {
  const [block, line, title] = [element("div", "cal-block"), element("div", "cal-block-name"), element("span", "", monthText(month))];
  [block.role, line.role, title.role, title.ariaColSpan] = ["rowgroup", "row", "rowheader", "7"];
  [block.ariaLabel, block.dataset.month] = [title.textContent, month];
  line.append(title);
  block.append(line);
  grid.append(block);
  const [lines, next] = [[], monthPlus(month, 1)];
  for (let start = month; start < next; ) {
    const [node, column] = [element("div", "cal-week"), number(start) - number(monday(start))];
    const end = [plus(start, 7 - column), next].sort()[0];
    node.role = "row";
    node.style.setProperty("--column", column + 1);
    block.append(node);
    lines.push(makeLine(row, node, { start, end, column }));
    start = end;
  }
  return lines;
}

const weekOf = (date) => grid.querySelector(`.cal-day[data-date='${date}']`)?.parentNode;
const weekHeight = () => grid.querySelector(".cal-week").offsetHeight;
/** What stands above the weeks while they scroll. */
const headHeight = () => parseFloat(getComputedStyle(scroll).scrollPaddingTop);

export const rangeFor = (date) => [monthOf(date), monthPlus(date, AT_ONCE)];
export const endFor = (date) => monthPlus(date, 2);
export const daysShown = () => Math.ceil(scroll.clientHeight / weekHeight()) * 7;
export const daysAhead = () => ((scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight) / weekHeight()) * 7;

/** The first day of the week that stands uppermost. */
export function visibleDate() {
  const top = scroll.getBoundingClientRect().top + headHeight() + 2;
  const node = [...grid.querySelectorAll(".cal-week")].find((one) => one.getBoundingClientRect().bottom > top);
  return node?.querySelector(".cal-day").dataset.date ?? range.start;
}

export function scrollTo(date) {
  scroll.scrollTop = (weekOf(date)?.offsetTop ?? 0) - headHeight();
}

const days = (step) => ({ id, date }) => ({ id, date: plus(date, step) });

export const steps = {
  ArrowLeft: days(-1),
  ArrowRight: days(1),
  ArrowUp: days(-7),
  ArrowDown: days(7),
  Home: ({ id, date }) => ({ id, date: monday(date) }),
  End: ({ id, date }) => ({ id, date: plus(monday(date), 6) }),
  PageUp: ({ id, date }) => ({ id, date: monthAway(date, -1) }),
  PageDown: ({ id, date }) => ({ id, date: monthAway(date, 1) }),
};
