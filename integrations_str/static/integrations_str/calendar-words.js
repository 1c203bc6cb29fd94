// Words, dates and money. A date is its text, "2026-08-14": it stands for the night that begins on it.

export const words = JSON.parse(document.getElementById("cal-facts").textContent).words;
export const language = document.documentElement.lang || "ru";

const DAY = 86_400_000;
const named = (options) => new Intl.DateTimeFormat(language, { timeZone: "UTC", ...options });
const [short, shortOld] = [named({ day: "numeric", month: "short" }), named({ day: "numeric", month: "short", year: "numeric" })];
const long = named({ weekday: "long", day: "numeric", month: "long" });
const month = named({ month: "long", year: "numeric" });
const [weekday, weekdayName] = [named({ weekday: "short" }), named({ weekday: "long" })];
const moscow = new Intl.DateTimeFormat(language, { timeZone: "Europe/Moscow", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const roubles = new Intl.NumberFormat(language, { style: "currency", currency: "RUB", currencyDisplay: "narrowSymbol", maximumFractionDigits: 0 });
const plural = new Intl.PluralRules(language);

export const number = (date) => Date.parse(date) / DAY;
export const plus = (date, days) => new Date(Date.parse(date) + days * DAY).toISOString().slice(0, 10);
export const before = (date) => plus(date, -1);
export const after = (date) => plus(date, 1);
export const between = (start, end) => number(end) - number(start);
export const monthOf = (date) => `${date.slice(0, 7)}-01`;
export const monthPlus = (date, months) => new Date(Date.UTC(+date.slice(0, 4), +date.slice(5, 7) - 1 + months, 1)).toISOString().slice(0, 10);
/** The same day of another month, or its last one. */
export const monthAway = (date, months) => {
  const first = monthPlus(date, months);
  return [`${first.slice(0, 8)}${date.slice(8)}`, before(monthPlus(first, 1))].sort()[0];
};
/** The Monday of a day's week. */
export const monday = (date) => plus(date, -((new Date(date).getUTCDay() + 6) % 7));
export const isWeekend = (date) => [0, 6].includes(new Date(date).getUTCDay());
export const span = (start, end) => Array.from({ length: Math.max(0, between(start, end)) }, (_none, index) => plus(start, index));

export function today(zone) {
  return new Intl.DateTimeFormat("sv-SE", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format();
}

const year = String(new Date().getFullYear());
const isThisYear = (...dates) => dates.every((date) => date.startsWith(year));
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

export const dayText = (date) => (isThisYear(date) ? short : shortOld).format(new Date(date));
export const dayLong = (date) => long.format(new Date(date));
export const weekdayText = (date) => weekday.format(new Date(date));
export const weekdayLong = (date) => capital(weekdayName.format(new Date(date)));
export const monthText = (date) => capital(month.format(new Date(date)).replace(/\s*г\.$/, ""));
/** Both included. */
export const datesText = (first, last) =>
  first === last ? dayText(first) : (isThisYear(first, last) ? short : shortOld).formatRange(new Date(first), new Date(last));
/** From arrival to departure. */
export const stayText = (booking) => datesText(booking.checkIn, booking.checkOut);
export const momentText = (at) => (at ? fill(words.moscow, { time: moscow.format(new Date(at)) }) : words.none);
export const money = (amount) => roubles.format(amount);
/** The same as nodes: where there is no room for it, the currency's sign may be left out. */
export const moneyParts = (amount) =>
  roubles.formatToParts(amount).map(({ type, value }) => (["currency", "literal"].includes(type) ? element("span", "cal-unit", value) : value));
export const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_whole, name) => values[name]).replaceAll("%%", "%");
export const counted = (forms, n) => fill(forms[plural.select(n)] ?? forms.other, { n });
/** The price at Avito: half up to whole roubles, as the service counts it. */
export const withMarkup = (price, percent) => Math.max(1, Math.floor((price * Math.round((100 + percent) * 100) + 5000) / 10_000));

export function element(tag, className = "", content = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}

export function icon(name) {
  const made = element("span", "material-symbols-outlined", name);
  made.ariaHidden = "true";
  return made;
}

export function soon(work, pause = 16) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, pause);
  };
}
