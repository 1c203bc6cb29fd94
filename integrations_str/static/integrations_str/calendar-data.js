// What the calendar knows: the API, the properties shown, their days and bookings.

import { before, fill, words } from "./calendar-words.js";

export const root = document.getElementById("cal");
export const $ = (id) => document.getElementById(`cal-${id}`);

export const PAGE = 20;
export const rows = new Map(); // property id -> {property, days: date -> day, bookings: id -> booking, errors: what -> error}
export const range = { start: "", end: "" }; // dates; the end is no longer shown
export const conflicts = new Map();

export class Refused extends Error {
  constructor(detail, { code = "", status = 0, errors = [] } = {}) {
    super(detail);
    Object.assign(this, { code, status, errors });
  }
}

export async function call(method, path, json) {
  const csrf = /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  const headers = { Accept: "application/json", "X-CSRFToken": csrf, ...(json && { "Content-Type": "application/json" }) };
  const url = path.startsWith("http") ? path : root.dataset.api + path;
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: json && JSON.stringify(json), signal: AbortSignal.timeout(30_000) });
  } catch {
    throw new Refused(words.noConnection, { code: "no_connection" });
  }
  const given = answer.status === 204 ? {} : await answer.json().catch(() => null);
  if (answer.ok && given) return given;
  if (answer.status === 401) throw new Refused(words.signedOut, { status: 401 });
  const errors = given?.errors ?? [];
  const detail = errors[0]?.detail ?? fill(words.broken, { status: answer.status });
  throw new Refused(detail, { code: errors[0]?.code, status: answer.status, errors });
}

async function all(path) {
  const found = [];
  for (let page = await call("GET", path); ; page = await call("GET", page.next)) {
    found.push(...page.results);
    if (!page.next) return found;
    page.next = new URL(page.next).pathname.replace(root.dataset.api, "") + new URL(page.next).search;
  }
}

/** One page of properties, or the one that is asked for; gives how many there are. */
export async function readProperties({ page = 1, only = "" } = {}) {
  const given = only
    ? await call("GET", `/str/properties/${encodeURIComponent(only)}`).then((one) => ({ count: 1, results: [one] }))
    : await call("GET", `/str/properties?page=${page}&pageSize=${PAGE}`);
  rows.clear();
  for (const property of given.results) rows.set(property.id, { property, days: new Map(), bookings: new Map(), errors: {} });
  return given.count;
}

/** Why what is shown of a property is not all there is. */
export const errorOf = (row) => Object.values(row.errors).find(Boolean);

/** Read something for some properties; that it failed is remembered of them until it is read. */
async function reading(what, some, work) {
  let error = null;
  await work().catch((refused) => (error = refused));
  for (const row of some) row.errors[what] = error;
}

let turns = 0;

export function readProperty(row) {
  return reading("property", [row], async () => (row.property = await call("GET", `/str/properties/${row.property.id}`)));
}

/** The days of a property; an answer never overwrites one that was asked for later. */
export function readDays(row, start = range.start, end = range.end) {
  const turn = ++turns;
  return reading("days", [row], async () => {
    const days = await call("GET", `/str/properties/${row.property.id}/calendar?from=${start}&to=${before(end)}`);
    for (const day of days) if (!(row.days.get(day.date)?.turn > turn)) row.days.set(day.date, { ...day, turn });
  });
}

/** The bookings of the properties shown, or of one of them. */
export function readBookings(some = [...rows.values()], start = range.start, end = range.end) {
  const turn = ++turns;
  const query = new URLSearchParams({ from: before(start), to: before(end), pageSize: 200 });
  if (some.length === 1) query.set("propertyId", some[0].property.id);
  return reading("bookings", some, async () => {
    for (const booking of await all(`/str/bookings?${query}`)) takeBooking(booking, turn);
  });
}

/** A booking as an answer or an event has it. */
export function takeBooking(booking, turn = ++turns) {
  const row = rows.get(booking.propertyId);
  if (!row || row.bookings.get(booking.id)?.turn > turn) return row;
  if (booking.status === "cancelled") row.bookings.delete(booking.id);
  else row.bookings.set(booking.id, { ...booking, turn });
  return row;
}

export function readConflicts() {
  return reading("conflicts", [...rows.values()], async () => {
    const found = await all("/str/conflicts?pageSize=200");
    conflicts.clear();
    for (const one of found) conflicts.set(one.id, one);
  });
}

export const conflictsOf = (row) => [...conflicts.values()].filter((one) => one.propertyId === row.property.id);

/** Bookings that hold some night from `first` to `last`, both included, in their order. */
export function bookingsIn(row, first, last) {
  return [...row.bookings.values()]
    .filter((one) => one.checkIn <= last && one.checkOut > first)
    .sort((a, b) => a.checkIn.localeCompare(b.checkIn) || a.id - b.id);
}
