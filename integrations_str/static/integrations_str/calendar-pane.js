// The pane beside the grid: chosen days and their form, a booking, a connection, what would be sent, help.

import { $, bookingsIn, call, conflictsOf, readBookings, readDays, readProperty, Refused, root, rows, takeBooking } from "./calendar-data.js";
import { called, todayOf } from "./calendar-cells.js";
import { choice, choose, firstOf, lastOf, revealChoice } from "./calendar-grid.js";
import {
  after, before, between, capital, counted, datesText, element, fill, icon, momentText, money, span, stayText, withMarkup, words,
} from "./calendar-words.js";

const pane = $("pane");
const rates = $("rates");
const fresh = $("new");
let shown = null; // {kind, id, bookingId}
let changed = () => {};

export const isOpen = () => shown !== null;
export const shownRow = () => rows.get(shown?.id);

/** `whenChanged(row)`: a property is to be drawn anew. */
export function listen(whenChanged) {
  changed = whenChanged;
}

function show(kind, id, title, of, more = {}) {
  const wasOpen = isOpen();
  if (kind !== shown?.kind || id !== shown?.id) for (const error of pane.querySelectorAll(".cal-error")) error.hidden = true;
  shown = { kind, id, ...more };
  [pane.hidden, $("pane-title").textContent, $("pane-of").textContent] = [false, title, of];
  for (const section of pane.querySelectorAll("[data-pane]")) section.hidden = section.dataset.pane !== kind;
  if (!wasOpen) revealChoice();
}

export function close() {
  [shown, pane.hidden] = [null, true];
  rates.reset();
  fresh.reset();
  choose(null);
}

export function focus() {
  const field = pane.querySelector("section:not([hidden]) input:not([type=date]):not(:disabled)");
  (field?.offsetParent ? field : $("pane-title")).focus();
}

/** After anything has come in: the same, as it is now; what was typed stays. */
export function refresh() {
  if (!shown || shown.kind === "help") return;
  const row = shownRow();
  if (!row) return close();
  if (shown.kind === "days") showDays();
  if (shown.kind === "connection") showConnection(row);
  if (shown.kind === "booking") {
    const booking = row.bookings.get(shown.bookingId);
    if (booking) showBooking(booking);
    else close();
  }
}

export function say(text) {
  $("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($("said").textContent = ""), 8000);
}

function showError(error, place = pane.querySelector("section:not([hidden]) .cal-error")) {
  place.textContent = error?.message ?? "";
  place.hidden = !error;
}

function note(content, className = "") {
  const made = element("p", `cal-note ${className}`);
  made.append(...[content].flat());
  return made;
}

// Chosen days

export function showDays({ anew = false } = {}) {
  if (!choice) return;
  const row = rows.get(choice.id);
  const [first, last] = [firstOf(choice), lastOf(choice)];
  if (!anew && shown?.kind === "new" && shown.id === choice.id) return showNew();
  show("days", choice.id, `${datesText(first, last)} · ${counted(words.nights, between(first, last) + 1)}`, row.property.name);
  const days = span(first, after(last)).map((date) => row.days.get(date)).filter(Boolean);
  $("summary").replaceChildren(...summary(row, days, first, last));
  const isPast = last < todayOf(row);
  [rates.hidden, $("only-past").hidden, $("only-past").textContent] = [isPast, !isPast, words.onlyPast];
  if (!isPast) fillRates(row, days, first, last);
}

/** Why each night is closed, what Avito knows of it; days that agree stand in one line. */
function summary(row, days, first, last) {
  const found = clashNotes(row, first, last);
  for (const [reason, run] of runs(days, (day) => day.reason ?? "")) {
    const [start, end] = [run[0].date, run.at(-1).date];
    const line = element("div", "cal-why");
    const said = reason ? words.reasons[reason] : words.free;
    line.dataset.reason = reason || "free";
    const title = element("strong", "", days.length === run.length ? capital(said) : `${datesText(start, end)}: ${said}`);
    line.append(title, element("span", "", reason ? words.why[reason] : prices(row, run)));
    if (reason) line.append(element("span", "cal-quiet", prices(row, run)));
    for (const booking of bookingsIn(row, start, end)) line.append(bookingLink(booking));
    found.push(line);
  }
  const { avito } = row.property;
  const ahead = days.filter((day) => day.reason !== "past");
  for (const [sync, some] of grouped(ahead)) {
    const mark = element("i", "cal-mark");
    mark.dataset.sync = avito ? sync : "off";
    const text = some.length === days.length ? words.sync[sync] : `${words.sync[sync]}: ${counted(words.days, some.length)}`;
    const line = element("p", sync === "failed" ? "cal-note is-bad" : "cal-sync");
    line.append(mark, element("span", "", [text, hintOf(sync, avito)].filter(Boolean).join(". ")));
    found.push(line);
  }
  return found;
}

function grouped(days) {
  const found = new Map();
  for (const day of days) found.set(day.sync, [...(found.get(day.sync) ?? []), day]);
  return found;
}

function hintOf(sync, avito) {
  if (sync === "failed") return avito?.lastError?.code === "avito_rejected" ? avito.lastError.detail : words.failedHint;
  if (sync === "pending") return avito?.lastError?.detail ?? "";
  if (sync !== "off") return "";
  return !avito ? words.offNotConnected : avito.isActive ? words.offBeyond : words.offPaused;
}

function prices(row, run) {
  const [amounts, stays] = [run.map((day) => day.price), run.map((day) => day.minStay)];
  const price = fromTo(amounts, money);
  const channel = row.property.avito && fill(words.atAvito, { price: fromTo(run.map((day) => day.channelPrice), money) });
  const stay = fill(words.minStayLong, { nights: fromTo(stays, (n) => n).toString().includes("–") ? fromTo(stays, (n) => n) : counted(words.nights, stays[0]) });
  return [price, channel, stay].filter(Boolean).join(", ");
}

function fromTo(values, text) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? text(least) : `${text(least)} – ${text(most)}`;
}

function runs(days, key) {
  const found = [];
  for (const day of days) {
    if (found.at(-1)?.[0] === key(day)) found.at(-1)[1].push(day);
    else found.push([key(day), [day]]);
  }
  return found;
}

function bookingLink(booking) {
  const made = element("button", "cal-link", `${called(booking)}, ${stayText(booking)}`);
  made.type = "button";
  [made.dataset.do, made.dataset.booking] = ["booking", booking.id];
  return made;
}

function clashNotes(row, first, last) {
  return conflictsOf(row).filter((one) => one.from <= last && one.to > first).map((one) => {
    const who = one.bookings.map((id) => row.bookings.get(id)).filter(Boolean).map(called).join(words.and);
    const said = fill(words.conflictWhat, { dates: datesText(one.from, before(one.to)), who });
    return note([icon("warning"), element("span", "", `${words.conflict}. ${said}`)], "is-bad");
  });
}

function fillRates(row, days, first, last) {
  const { property } = row;
  const fields = rates.elements;
  const now = todayOf(row);
  [fields.from.value, fields.to.value, fields.from.min, fields.to.min] = [first > now ? first : now, last, now, now];
  const said = (values, text) => {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return least === most ? fill(words.now, { value: text(least) }) : fill(words.nowMixed, { least: text(least), most: text(most) });
  };
  if (days.length) {
    fields.price.placeholder = said(days.map((day) => day.price), money);
    fields.minStay.placeholder = said(days.map((day) => day.minStay), String);
  }
  fields.usualPrice.nextElementSibling.textContent = fill(words.usual, { value: money(property.basePrice) });
  fields.usualMinStay.nextElementSibling.textContent = fill(words.usual, { value: counted(words.nights, property.minStay) });
  ratesTyped();
}

function ratesTyped() {
  const row = rows.get(choice?.id);
  if (!row) return;
  const { price, minStay, usualPrice, usualMinStay, closed } = rates.elements;
  [price.disabled, minStay.disabled] = [usualPrice.checked, usualMinStay.checked];
  const amount = usualPrice.checked ? row.property.basePrice : Number(price.value);
  const { avito } = row.property;
  $("price-hint").textContent = avito && amount > 0 ? fill(words.willBe, { price: money(withMarkup(amount, avito.markupPercent)) }) : "";
  const held = rates.querySelector("[data-held]");
  const isHeld = span(firstOf(choice), after(lastOf(choice))).some((date) => (row.days.get(date)?.reason ?? "").includes("booking"));
  [held.hidden, held.textContent] = [!(closed.value === "no" && isHeld), words.heldStay];
}

rates.addEventListener("input", ({ target }) => {
  target.removeAttribute("aria-invalid");
  ratesTyped();
});
rates.addEventListener("change", ({ target }) => {
  const { from, to } = rates.elements;
  if (target !== from && target !== to) return;
  if (!from.value || !to.value) return;
  if (from.value > to.value) (target === from ? to : from).value = target.value;
  choose({ id: choice.id, anchor: from.value, head: to.value });
  revealChoice();
  showDays();
});

rates.addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = rows.get(choice.id);
  const { from, to, price, minStay, usualPrice, usualMinStay, closed } = rates.elements;
  const asked = { from: from.value, to: to.value };
  if (usualPrice.checked) asked.price = null;
  else if (price.value || price.validity.badInput) asked.price = price.validity.badInput ? price.value : Number(price.value);
  if (usualMinStay.checked) asked.minStay = null;
  else if (minStay.value || minStay.validity.badInput) asked.minStay = Number(minStay.value);
  if (closed.value) asked.closed = closed.value === "yes" ? true : null;
  if (Object.keys(asked).length === 2) return showError(new Refused(words.nothingToSave));
  await sent(rates, async () => {
    await call("PUT", `/str/properties/${row.property.id}/rates`, { ranges: [asked] });
    rates.reset();
    const { avito } = row.property;
    say(avito?.isActive ? words.savedAndSent : words.saved);
    await Promise.all([readDays(row), readProperty(row)]);
    changed(row);
  });
});

/** Hand a form over; what is wrong with it is said there, at the field that it is about. */
async function sent(form, work) {
  if (form.ariaBusy === "true") return; // once is enough
  const place = form.querySelector(".cal-error");
  showError(null, place);
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  form.ariaBusy = "true";
  try {
    await work();
  } catch (error) {
    showError(error, place);
    const field = form.elements[(error.errors?.[0]?.attr ?? "").split(".").at(-1)];
    if (field?.setAttribute) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
      const label = field.labels?.[0]?.firstChild?.textContent.trim();
      if (label) place.textContent = `${label}: ${error.message}`;
    }
  } finally {
    form.ariaBusy = "false";
  }
}

// A new booking

export function showNew() {
  const row = rows.get(choice.id);
  show("new", choice.id, words.labels.newBooking, row.property.name);
  const fields = fresh.elements;
  [fields.checkIn.value, fields.checkOut.value] = [firstOf(choice), after(lastOf(choice))];
  $("new-where").textContent = row.property.avito?.isActive ? words.closesAtAvito : words.closesHere;
  newTyped();
}

function newTyped() {
  const row = rows.get(shown?.id);
  const { checkIn, checkOut, totalPrice } = fresh.elements;
  const nights = checkIn.value && checkOut.value ? between(checkIn.value, checkOut.value) : 0;
  const days = nights > 0 ? span(checkIn.value, checkOut.value).map((date) => row.days.get(date)) : [];
  const sum = days.length && days.every(Boolean) ? days.reduce((total, day) => total + day.price, 0) : 0;
  const suggested = sum ? fill(words.suggested, { price: money(sum) }) : "";
  $("new-nights").textContent = nights > 0 ? [counted(words.nights, nights), suggested].filter(Boolean).join(", ") : "";
  totalPrice.placeholder = sum || "";
}

fresh.addEventListener("input", ({ target }) => {
  target.removeAttribute("aria-invalid");
  newTyped();
});
fresh.addEventListener("change", () => {
  const { checkIn, checkOut } = fresh.elements;
  if (checkIn.value && checkIn.value < checkOut.value) choose({ id: shown.id, anchor: checkIn.value, head: before(checkOut.value) });
});
fresh.addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = shownRow();
  const asked = { propertyId: row.property.id };
  for (const { name, value, type } of fresh.elements) if (name && value) asked[name] = type === "number" ? Number(value) : value;
  await sent(fresh, async () => {
    let booking;
    try {
      booking = await call("POST", "/str/bookings", asked);
    } catch (error) {
      if (error.code !== "dates_taken") throw error;
      await Promise.all([readBookings([row]), readDays(row)]);
      changed(row);
      const who = bookingsIn(row, asked.checkIn, before(asked.checkOut)).map((one) => `${called(one)}, ${stayText(one)}`);
      throw new Refused(who.length ? fill(words.taken, { who: who.join("; ") }) : words.takenBySomebody, error);
    }
    takeBooking(booking);
    fresh.reset();
    say(words.booked);
    showBooking(booking);
    $("pane-title").focus();
    await readDays(row);
    changed(row);
  });
});

// A booking

export function showBooking(booking) {
  const row = rows.get(booking.propertyId);
  show("booking", booking.propertyId, called(booking), row.property.name, { bookingId: booking.id });
  $("clash").replaceChildren(
    ...clashNotes(row, booking.checkIn, before(booking.checkOut)),
    ...conflictsOf(row).filter((one) => one.bookings.includes(booking.id)).flatMap((one) =>
      one.bookings.filter((id) => id !== booking.id && row.bookings.has(id)).map((id) => bookingLink(row.bookings.get(id))),
    ),
  );
  const phone = element("a", "cal-link", booking.guestPhone);
  phone.href = `tel:${booking.guestPhone}`;
  const mail = element("a", "cal-link", booking.guestEmail);
  mail.href = `mailto:${booking.guestEmail}`;
  const { labels } = words;
  fillList($("booking"), [
    [labels.dates, `${stayText(booking)}, ${counted(words.nights, booking.nights)}`],
    [labels.price, booking.totalPrice === null ? "" : money(booking.totalPrice)],
    [labels.state, words.bookingStatuses[booking.status]],
    [labels.source, booking.source === "avito" ? `${words.sources.avito}, № ${booking.avitoBookingId}` : words.sources.manual],
    [labels.phone, booking.guestPhone && phone],
    [labels.mail, booking.guestEmail && mail],
    [labels.guests, booking.guests ? counted(words.guests, booking.guests) : ""],
  ]);
  $("booking-link").hidden = !("links" in root.dataset);
  $("booking-link").href = `${root.dataset.bookings}${booking.id}/change/`;
  pane.querySelector("[data-do=cancel]").hidden = booking.source === "avito" || booking.status === "cancelled";
  $("booking-avito").hidden = booking.source !== "avito";
}

function fillList(list, entries) {
  list.replaceChildren(
    ...entries.filter(([, value]) => value).map(([name, value]) => {
      const line = element("div");
      const content = element("dd");
      content.append(value);
      line.append(element("dt", "", name), content);
      return line;
    }),
  );
}

export async function cancelBooking() {
  const row = shownRow();
  const id = shown.bookingId;
  if (!(await sure(words.cancelSure))) return;
  try {
    takeBooking(await call("POST", `/str/bookings/${id}/cancel`));
    say(words.cancelled);
    close();
    await readDays(row);
    changed(row);
  } catch (error) {
    showError(error);
  }
}

export function sure(text) {
  const dialog = $("sure");
  $("sure-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// A connection

export function showConnection(row) {
  const { avito, name, id } = row.property;
  if (!avito) return close();
  const { labels } = words;
  show("connection", id, labels.connection, name);
  const isBad = ["error", "needs_reconnect", "item_unavailable"].includes(avito.status);
  const text = element("span");
  text.append(element("strong", "", `${capital(words.statuses[avito.status])}. `), avito.lastError ? `${avito.lastError.detail} ` : "", words.remedies[avito.status]);
  $("status").replaceChildren(note([icon(isBad ? "error" : { off: "pause_circle", syncing: "sync" }[avito.status] ?? "check_circle"), text], isBad ? "is-bad" : ""));
  fillList($("connection"), [
    [labels.item, avito.itemId],
    [labels.markup, `${avito.markupPercent} %`],
    [labels.pending, avito.pendingDays ? counted(words.days, avito.pendingDays) : ""],
    [labels.pushed, momentText(avito.lastPushAt)],
    [labels.pulled, momentText(avito.lastPullAt)],
  ]);
  const button = (deed) => pane.querySelector(`[data-pane=connection] [data-do=${deed}]`);
  button("reconnect").hidden = avito.status !== "needs_reconnect";
  button("sync").hidden = !avito.isActive;
  button("pause").textContent = avito.isActive ? words.pause : words.resume;
  $("connection-link").hidden = !("links" in root.dataset);
  $("connection-link").href = `${root.dataset.integrations}${avito.id}/change/`;
}

export async function showPreview(row) {
  const { id, name } = row.property;
  show("preview", id, words.labels.preview, name);
  const place = $("preview");
  place.replaceChildren(element("span", "own-spinner"));
  place.ariaBusy = "true";
  pane.querySelector("[data-do=allow]").hidden = true;
  try {
    const given = await call("GET", `/str/properties/${id}/avito/preview`);
    if (shown?.kind !== "preview" || shown.id !== id) return;
    place.replaceChildren(...preview(given));
    pane.querySelector("[data-do=allow]").hidden = !given.consentNeeded;
  } catch (error) {
    place.replaceChildren();
    showError(error);
  }
  place.ariaBusy = "false";
}

function preview(given) {
  const found = [];
  if (given.opensAtAvito.length) {
    const dates = given.opensAtAvito.map((one) => datesText(one.from, before(one.to))).join("; ");
    found.push(note([icon("warning"), element("span", "", `${words.previewOpens} ${dates}`)], "is-bad"));
  }
  if (given.closesAll) found.push(note([icon("warning"), element("span", "", words.previewCloses)], "is-bad"));
  if (given.changedDays) found.push(element("p", "", counted(words.waiting, given.changedDays)));
  if (given.base) found.push(element("p", "", fill(words.previewBase, { price: money(given.base.price) })));
  const list = (title, lines) => {
    if (!lines.length) return;
    const made = element("dl", "cal-list");
    fillList(made, lines);
    if (title) found.push(element("h3", "", title));
    found.push(made);
  };
  list("", given.prices.map((one) => [datesText(one.from, one.to), fill(words.previewPrice, { price: money(one.price), nights: counted(words.nights, one.minStay) })]));
  list(words.previewFree, given.intervals.map((one) => [datesText(one.from, before(one.to)), counted(words.nights, between(one.from, one.to))]));
  return found.length ? found : [element("p", "", words.previewNothing)];
}

/** Something asked of a connection: where it fails, that is said in its own pane. */
async function ask(row, text, work) {
  try {
    await work(`/str/properties/${row.property.id}/avito`);
    say(text);
    await Promise.all([readProperty(row), readDays(row)]);
    changed(row);
  } catch (error) {
    showConnection(row);
    showError(error);
  }
}

export const sync = (row) => ask(row, words.syncAsked, (path) => call("POST", `${path}/sync`));

export async function pause(row) {
  const isActive = !row.property.avito.isActive;
  if (!isActive && !(await sure(words.pauseSure))) return;
  await ask(row, isActive ? words.resumed : words.paused, (path) => call("PATCH", path, { isActive }));
}

export async function allow(row) {
  await ask(row, words.allowed, (path) => call("PATCH", path, { consent: true }));
  if (shown?.kind === "preview") showConnection(row);
}

export const reconnect = (row) =>
  ask(row, "", async (path) => location.assign((await call("POST", `${path}/reconnect`)).url));

export function showHelp() {
  show("help", 0, words.labels.help, "");
}
