// What a day, a booking and a property look like, wherever they stand.

import { bookingsIn, conflictsOf, errorOf, root, rows } from "./calendar-data.js";
import {
  before, between, capital, counted, dayLong, element, fill, icon, isWeekend, money, moneyParts, stayText, today, words,
} from "./calendar-words.js";

export const todayOf = (row) => today(row.property.timezone);

// A day

export function makeDay(row, date) {
  const cell = element("div", "cal-day is-empty");
  cell.append(element("span", "cal-number", String(Number(date.slice(8)))), element("b"), element("i"), element("small"));
  [cell.role, cell.tabIndex, cell.ariaSelected, cell.ariaLabel] = ["gridcell", -1, "false", dayLong(date)];
  [cell.dataset.date, cell.dataset.property] = [date, row.property.id];
  cell.classList.toggle("is-weekend", isWeekend(date));
  cell.classList.toggle("is-first", date.endsWith("-01"));
  if (date === todayOf(row)) cell.ariaCurrent = "date";
  return cell;
}

export function fillDay(row, cell, clashes) {
  const day = row.days.get(cell.dataset.date);
  if (!day) return;
  const { avito, basePrice, minStay } = row.property;
  const isClash = clashes.some((one) => one.from <= day.date && day.date < one.to);
  const said = spoken(row, day, isClash);
  const shown = JSON.stringify([day.reason, said, basePrice, minStay]);
  if (cell.shown === shown) return;
  cell.shown = shown;
  const [, price, channel, more] = cell.children;
  const isAhead = avito && day.reason !== "past";
  cell.classList.remove("is-empty");
  cell.classList.toggle("is-clash", isClash);
  cell.classList.toggle("is-special", day.price !== basePrice);
  [cell.dataset.reason, cell.dataset.sync] = [day.reason ?? "free", isAhead ? day.sync : ""];
  price.replaceChildren(...moneyParts(day.price));
  channel.replaceChildren(...(isAhead ? moneyParts(day.channelPrice) : []));
  more.textContent = day.reason === "closed" ? words.closedShort : fill(words.minStay, { n: day.minStay });
  more.classList.toggle("is-usual", day.reason !== "closed" && day.minStay === minStay);
  [cell.ariaLabel, cell.title] = [`${capital(said.join(", "))}.`, said.join("\n")];
}

function spoken(row, day, isClash) {
  const isAhead = row.property.avito && day.reason !== "past";
  return [
    dayLong(day.date),
    day.date === todayOf(row) && words.today,
    day.reason ? words.reasons[day.reason] : words.free,
    isClash && words.conflict,
    ...bookingsIn(row, day.date, day.date).map(called),
    money(day.price),
    isAhead && fill(words.atAvito, { price: money(day.channelPrice) }),
    fill(words.minStayLong, { nights: counted(words.nights, day.minStay) }),
    isAhead && words.sync[day.sync],
  ].filter(Boolean);
}

// A booking

/**
 * Bars of a line of days: from the middle of the day of arrival to the middle of that of departure, as far as the line
 * goes; `column` is where its first day stands. Those that would cover one another lie on levels.
 */
export function drawBars(row, { start, end, column, node, bars }) {
  const ends = []; // of each level
  const made = bookingsIn(row, before(start), before(end)).map((booking) => {
    const found = ends.findIndex((one) => one <= booking.checkIn);
    const level = found < 0 ? ends.length : found;
    ends[level] = booking.checkOut;
    const [first, last] = [between(start, booking.checkIn) + 0.5, between(start, booking.checkOut) + 0.5];
    const [from, to] = [Math.max(0, first), Math.min(last, between(start, end))];
    const bar = makeBar(booking, { from: column + from, nights: to - from, level });
    bar.classList.toggle("is-begun", first < 0);
    bar.classList.toggle("is-unended", last > to);
    return bar;
  });
  bars.replaceChildren(...made);
  node.style.setProperty("--levels", Math.max(1, ends.length));
}

function makeBar(booking, place) {
  const bar = element("button", "cal-bar");
  Object.assign(bar, { type: "button", tabIndex: -1, title: barText(booking) });
  bar.dataset.booking = booking.id;
  [bar.dataset.source, bar.dataset.status] = [booking.source, booking.status];
  bar.classList.toggle("is-clash", booking.conflict);
  for (const [name, value] of Object.entries(place)) bar.style.setProperty(`--${name}`, value);
  bar.append(element("span", "", called(booking)));
  return bar;
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

export function fillName(row, node) {
  const { property } = row;
  const { avito } = property;
  const title = element("a", "cal-title", property.name);
  if ("links" in root.dataset) title.href = `${root.dataset.properties}${property.id}/change/`;
  Object.assign(title, { title: [property.name, property.address, property.timezone].filter(Boolean).join("\n") });
  const facts = element("div", "cal-facts");
  facts.append(...warnings(row));
  if (avito) {
    const status = element("button", "cal-status", words.statuses[avito.status]);
    Object.assign(status, { type: "button", title: avito.lastError?.detail ?? words.remedies[avito.status] });
    [status.dataset.status, status.dataset.do] = [avito.status, "connection"];
    facts.append(status);
  } else {
    const connect = element("a", "cal-connect", words.labels.connect);
    connect.href = `${root.dataset.connect}${property.id}/connect/`;
    facts.append(connect);
  }
  const buttons = element("div", "cal-buttons");
  if (rows.size > 1) {
    const months = element("a", "cal-icon");
    Object.assign(months, { href: `?property=${property.id}&view=months`, title: words.labels.months });
    months.ariaLabel = `${words.labels.months}: ${property.name}`;
    months.append(icon("calendar_month"));
    buttons.append(months);
  }
  if (avito) {
    buttons.append(
      ...(avito.isActive ? [button("sync", "sync", words.labels.sync)] : []),
      button("preview", "visibility", words.labels.preview),
      avito.isActive ? button("pause", "pause", words.pause) : button("pause", "play_arrow", words.resume),
    );
    if (avito.pendingDays) buttons.append(element("small", "cal-waiting", counted(words.waiting, avito.pendingDays)));
  }
  const had = node.contains(document.activeElement) ? document.activeElement.dataset.do : null;
  node.replaceChildren(title, facts, buttons);
  if (had) node.querySelector(`[data-do=${had}]`)?.focus({ preventScroll: true });
}

function warnings(row) {
  const [clash, error] = [conflictsOf(row)[0], errorOf(row)];
  const found = [];
  if (error) found.push(warning("reload", "refresh", words.loadFailed, error.message));
  if (clash) found.push(warning("conflict", "warning", words.conflict));
  if (clash) found[found.length - 1].dataset.conflict = clash.id;
  return found;
}

function warning(deed, sign, text, title = text) {
  const made = element("button", "cal-warning");
  Object.assign(made, { type: "button", title });
  made.dataset.do = deed;
  made.append(icon(sign), element("span", "", text));
  return made;
}

function button(deed, sign, label) {
  const made = element("button", "cal-icon");
  Object.assign(made, { type: "button", title: label, ariaLabel: label });
  made.dataset.do = deed;
  made.append(icon(sign));
  return made;
}
