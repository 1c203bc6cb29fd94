// The inbox: chats on the left, one conversation on the right.
//
// What the API answers and what the live events carry are the same objects, so both go through the same two doors,
// `takeChat` and `takeMessage`, in whichever order they come. What people have written enters the page as text only.

const $ = (id) => document.getElementById(`inbox-${id}`);
const root = document.getElementById("inbox");
const facts = JSON.parse($("facts").textContent);
const words = facts.words;
const [list, pane, log, text, form] = [$("list"), $("pane"), $("log"), $("text"), $("filters").elements];
const people = new Map(facts.people.map((person) => [person.id, person.name]));

const PAGE = 30;
const UNREAD_COUNTED = 100;
const READ_AFTER = 1000;
const LONG_AWAY = 10_000;

function element(tag, className = "", content = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}

function icon(name) {
  const made = element("span", "material-symbols-outlined", name);
  made.ariaHidden = "true";
  return made;
}

function soon(work, pause = 16) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, pause);
  };
}

function webAddress(value) {
  return typeof value === "string" && /^https?:\/\//.test(value) ? value : "";
}

// The API

class Refused extends Error {
  constructor(code, detail, status = 0) {
    super(detail);
    Object.assign(this, { code, status });
  }
}

async function call(method, path, { json, body, headers = {}, seconds = 30 } = {}) {
  const csrf = /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  headers = { Accept: "application/json", "X-CSRFToken": csrf, ...headers };
  if (json) [headers["Content-Type"], body] = ["application/json", JSON.stringify(json)];
  const signal = AbortSignal.timeout(seconds * 1000);
  let answer;
  try {
    answer = await fetch(root.dataset.api + path, { method, headers, body, signal });
  } catch {
    throw new Refused("no_connection", words.noConnection);
  }
  const given = await answer.json().catch(() => null);
  if (answer.ok && given) return given;
  if (answer.status === 401) throw new Refused("signed_out", words.signedOut, 401);
  const error = given?.errors?.[0];
  throw new Refused(error?.code ?? "", error?.detail ?? words.broken.replace("%s", answer.status), answer.status);
}

// Two accounts of ours that talk to each other share one chat id: the account says whose side is open.
function chatPath(chatId, rest = "") {
  const path = `/avito/chats/${encodeURIComponent(chatId)}${rest}`;
  const accountId = open?.chatId === chatId ? open.chat?.accountId : null;
  return accountId && !path.includes("accountId=") ? `${path}${path.includes("?") ? "&" : "?"}accountId=${accountId}` : path;
}

// Times

const pageLanguage = document.documentElement.lang || "ru";
const language = navigator.languages.find((one) => one.split("-")[0] === pageLanguage) ?? pageLanguage;
const inMoscow = (options, tongue = language) => new Intl.DateTimeFormat(tongue, { timeZone: "Europe/Moscow", ...options });
const clock = inMoscow({ hour: "2-digit", minute: "2-digit" });
const weekday = inMoscow({ weekday: "short" });
const shortDay = inMoscow({ day: "numeric", month: "short" });
const oldDay = inMoscow({ day: "2-digit", month: "2-digit", year: "2-digit" });
const longDay = inMoscow({ day: "numeric", month: "long" });
const longOldDay = inMoscow({ day: "numeric", month: "long", year: "numeric" });
const wholeTime = inMoscow({ dateStyle: "long", timeStyle: "short" });
const date = inMoscow({ dateStyle: "short" }, "sv-SE"); // "2026-08-14"
const dateOf = (at) => date.format(at);
const isThisYear = (at) => dateOf(at).slice(0, 4) === dateOf(new Date()).slice(0, 4);

function daysAgo(at) {
  return Math.round((Date.parse(dateOf(new Date())) - Date.parse(dateOf(at))) / 86_400_000);
}

function brief(at) {
  const days = daysAgo(at);
  if (days <= 0) return clock.format(at);
  if (days < 7) return weekday.format(at);
  return (isThisYear(at) ? shortDay : oldDay).format(at);
}

function dayOf(at) {
  const days = daysAgo(at);
  if (days === 0) return words.today;
  if (days === 1) return words.yesterday;
  return (isThisYear(at) ? longDay : longOldDay).format(at);
}

function showTime(node, at, shown) {
  [node.dateTime, node.title, node.textContent] = [at.toISOString(), words.moscow.replace("%s", wholeTime.format(at)), shown];
}

// Filters live in the page's address

const NO_FILTERS = { status: "active", assignee: "", accountId: "", unread: "", search: "" };
let filters = { ...NO_FILTERS };

function filtersOfAddress() {
  const query = new URLSearchParams(location.search);
  filters = Object.fromEntries(Object.entries(NO_FILTERS).map(([name, usual]) => [name, query.get(name) ?? usual]));
  for (const [name, value] of Object.entries(filters)) {
    if (name === "unread") form.unread.checked = value === "true";
    else form[name].value = value;
  }
}

function writeAddress({ replace = false } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) if (value !== NO_FILTERS[name]) query.set(name, value);
  if (open) query.set("chat", open.chatId);
  const address = query.size ? `?${query}` : location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", address);
}

function apply(changes, { replace = false } = {}) {
  if (Object.entries(changes).every(([name, value]) => filters[name] === value)) return;
  Object.assign(filters, changes);
  writeAddress({ replace });
  loadList({ anew: true });
}

function isFiltered() {
  return Object.entries(filters).some(([name, value]) => value !== NO_FILTERS[name]);
}

/** Would the list show this chat? Of a search, only what stands in the chat itself can be told here. */
function fits(chat) {
  const { status, assignee, accountId, unread, search } = filters;
  if (status !== "all" && chat.status !== status) return false;
  if (unread && !chat.unreadCount) return false;
  if (assignee && chat.assigneeId !== (assignee === "me" ? facts.me : null)) return false;
  if (accountId && String(chat.accountId) !== accountId) return false;
  if (!search || rows.has(chat.id)) return true;
  const said = [chat.name, chat.itemTitle, chat.lastMessage?.text].join("\n").toLowerCase();
  return said.includes(search.toLowerCase());
}

// The list

const rows = new Map(); // chat id -> {chat, node}
const heard = new Map(); // chat or message -> how many events had come when it was last told of
let events = 0;
let next = "";
let loads = 0;
let isLoading = false;
const isNewer = (key, since) => (heard.get(key) ?? 0) > since; // than what was asked for after so many events
let at = 0; // the id of the chat that the keyboard is at

const activity = (chat) => Date.parse(chat.lastMessageAt ?? chat.createdAt);
const sorted = () => [...rows.values()].sort((a, b) => activity(b.chat) - activity(a.chat) || b.chat.id - a.chat.id);

async function loadList({ anew = false, quietly = false } = {}) {
  if (isLoading && !anew) return;
  const [mine, since] = [++loads, events];
  isLoading = true;
  if (anew && !quietly) {
    next = "";
    $("scroll").scrollTop = 0;
    list.classList.add("is-stale");
  }
  $("more").hidden = false;
  $("nothing").hidden = true;
  const query = new URLSearchParams({ limit: PAGE });
  for (const [name, value] of Object.entries(filters)) if (value && value !== "all") query.set(name, value);
  try {
    const page = await call("GET", `/avito/chats${anew || !next ? `?${query}` : next}`);
    if (mine !== loads) return;
    if (anew) forgetRows(page, since, quietly);
    if (!(quietly && next)) next = page.next ? new URL(page.next).search : "";
    for (const chat of page.results) if (!isNewer(`chat ${chat.id}`, since)) putRow(chat);
    isLoading = false;
    showList();
  } catch (error) {
    if (mine !== loads) return;
    isLoading = false;
    showNothing(words.loadFailed.replace("%s", error.message), "");
  }
}

/** The rows that the first page should hold and does not: they fit the filters no more. */
function forgetRows(page, since, keepOlder) {
  const found = new Set(page.results.map((chat) => chat.id));
  const edge = keepOlder && page.next ? activity(page.results.at(-1) ?? { lastMessageAt: 0 }) : -Infinity;
  for (const { chat } of sorted()) {
    if (found.has(chat.id) || isNewer(`chat ${chat.id}`, since) || activity(chat) < edge) continue;
    if (!(keepOlder && isOpen(chat))) dropRow(chat.id);
  }
}

const isOpen = (chat) => chat.id === open?.chat?.id;

function dropRow(id) {
  rows.get(id)?.node.remove();
  rows.delete(id);
}

function takeChat(chat) {
  events += 1;
  heard.set(`chat ${chat.id}`, events);
  if (chat.chatId === undefined) {
    unread.delete(chat.id);
    dropRow(chat.id);
    return showSoon();
  }
  noteUnread(chat);
  if (isOpen(chat)) {
    open.chat = chat;
    showHead();
    considerReading();
  }
  const last = next ? sorted().at(-1) : null;
  if (!fits(chat) && !isOpen(chat)) dropRow(chat.id);
  else if (rows.has(chat.id) || !last || activity(chat) >= activity(last.chat)) putRow(chat);
  showSoon();
}

function putRow(chat) {
  const row = rows.get(chat.id) ?? { node: $("row").content.firstElementChild.cloneNode(true) };
  row.chat = chat;
  row.node.id = `inbox-chat-${chat.id}`;
  row.node.dataset.chat = chat.id;
  rows.set(chat.id, row);
  fillRow(row);
}

function fillRow({ chat, node }) {
  const [avatar, name, time, item, said, badge, chips] = node.children;
  const message = chat.lastMessage;
  const called = chat.name || words.noName;
  const mine = message?.direction === "outbound";
  avatar.textContent = [...called][0].toUpperCase();
  avatar.style.setProperty("--hue", (chat.id * 47) % 360);
  name.textContent = called;
  showTime(time, new Date(activity(chat)), brief(new Date(activity(chat))));
  item.textContent = chat.itemTitle;
  said.textContent = message ? (mine ? words.you : "") + message.text : words.noMessages;
  said.classList.toggle("is-bad", mine && message.deliveryStatus === "failed");
  if (mine && message.deliveryStatus === "failed") said.textContent = `${words.delivery.failed}: ${message.text}`;
  badge.hidden = !chat.unreadCount;
  badge.textContent = chat.unreadCount > 99 ? "99+" : chat.unreadCount;
  badge.ariaLabel = words.unread.replace("%s", chat.unreadCount);
  node.classList.toggle("is-unread", chat.unreadCount > 0);
  chips.replaceChildren(...chipsOf(chat));
}

function chipsOf(chat) {
  const chips = [];
  if (chat.status !== "active") chips.push(element("span", "inbox-chip is-off", words.statuses[chat.status]));
  if (chat.assigneeId) chips.push(element("span", `inbox-chip${isMine(chat) ? " is-mine" : ""}`, nameOf(chat)));
  if (facts.accounts.length > 1 && chat.accountName) chips.push(element("span", "inbox-chip", chat.accountName));
  for (const tag of chat.tags) chips.push(element("span", "inbox-chip", `#${tag}`));
  return chips;
}

const isMine = (chat) => chat.assigneeId === facts.me;
const nameOf = (chat) => (isMine(chat) ? words.me : (people.get(chat.assigneeId) ?? `№ ${chat.assigneeId}`));

const showSoon = soon(showList);

function showList() {
  for (const { chat } of rows.values()) if (!fits(chat) && !isOpen(chat)) dropRow(chat.id);
  list.classList.remove("is-stale");
  sorted().forEach(({ chat, node }, index) => {
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    node.ariaSelected = String(isOpen(chat));
    node.classList.toggle("is-open", isOpen(chat));
    node.classList.toggle("is-at", chat.id === at);
  });
  if (at && rows.has(at)) list.setAttribute("aria-activedescendant", `inbox-chat-${at}`);
  else list.removeAttribute("aria-activedescendant");
  $("more").hidden = !(isLoading || next);
  if (rows.size || isLoading || next) $("nothing").hidden = true;
  else if (isFiltered()) showNothing(words.nothingFound, words.nothingFoundHint, { clear: true });
  else if (facts.hasChats) showNothing(words.allDone, words.allDoneHint);
  else if (facts.accounts.length) showNothing(words.noChats, words.noChatsHint);
  else if (facts.mayConnect) showNothing(words.noAccounts, words.noAccountsHint, { connect: true });
  else showNothing(words.noAccounts, `${words.noAccountsHint} ${words.askAdmin}`);
  if (!isLoading) goOnIfSeen();
}

function showNothing(title, hint, { clear = false, connect = false } = {}) {
  const [strong, p, a, button] = $("nothing").querySelectorAll("strong, p, a, button");
  [strong.textContent, p.textContent, a.hidden, button.hidden] = [title, hint, !connect, !clear];
  a.href = root.dataset.addAccount;
  $("nothing").hidden = false;
  $("more").hidden = true;
}

/** The next page is loaded once the end of the list comes into sight. */
function goOnIfSeen() {
  const { scrollTop, clientHeight, scrollHeight } = $("scroll");
  if (next && clientHeight && scrollTop + clientHeight > scrollHeight - 300) loadList();
}

function walk(step) {
  const order = sorted();
  const index = order.findIndex(({ chat }) => chat.id === at);
  const row = order[index < 0 ? 0 : Math.max(0, Math.min(order.length - 1, index + step))];
  if (row) goTo(row);
}

function goTo({ chat, node }) {
  at = chat.id;
  showList();
  node.scrollIntoView({ block: "nearest" });
  list.focus({ preventScroll: true });
}

function nextUnread() {
  const order = sorted();
  const index = order.findIndex(({ chat }) => chat.id === (open?.chat?.id ?? at));
  const row = [...order.slice(index + 1), ...order.slice(0, index + 1)].find(({ chat }) => chat.unreadCount);
  if (!row) return;
  goTo(row);
  openChat(row.chat.chatId, { chat: row.chat });
}

// How much is unread, over all active chats

const unread = new Set();
const title = document.title;

async function loadUnread() {
  const since = events;
  try {
    const page = await call("GET", `/avito/chats?status=active&unread=true&limit=${UNREAD_COUNTED}`);
    for (const id of unread) if (!isNewer(`chat ${id}`, since)) unread.delete(id);
    for (const { id } of page.results) if (!isNewer(`chat ${id}`, since)) unread.add(id);
    showUnread();
  } catch {
    // the number is a comfort; the next event corrects it
  }
}

function noteUnread(chat) {
  unread[chat.unreadCount > 0 && chat.status === "active" ? "add" : "delete"](chat.id);
  showUnread();
}

function showUnread() {
  const count = unread.size >= UNREAD_COUNTED ? `${UNREAD_COUNTED - 1}+` : unread.size;
  document.title = unread.size ? `(${count}) ${title.trim()}` : title;
  $("unread").textContent = count;
  $("unread").hidden = !unread.size;
}

// The open chat

let open = null; // {chatId, chat, messages: id -> message, nodes: id -> node, older, isPinned, unseen, canned}

async function openChat(chatId, { chat = null, push = true } = {}) {
  if (open?.chatId === chatId && (!chat || !open.chat || chat.id === open.chat.id)) return;
  leaveChat();
  const mine = (open = { chatId, chat, messages: new Map(), nodes: new Map(), older: "", isPinned: true, isLoaded: false });
  at = chat?.id ?? at;
  if (push) writeAddress();
  root.classList.add("has-open");
  [$("choose").hidden, $("chat").hidden, $("newer").hidden] = [true, false, true];
  log.replaceChildren(element("p", "inbox-more", "…"));
  text.value = drafts.get(chatId);
  dropPicture();
  closeCanned();
  showError(failures.get(chatId));
  grow();
  showHead();
  showList();
  try {
    if (!chat) chat = await call("GET", chatPath(chatId));
    if (mine !== open) return;
    open.chat ??= chat;
    await loadMessages();
  } catch (error) {
    if (mine !== open) return;
    log.replaceChildren(element("p", "inbox-more", error.status === 404 ? words.notThere : error.message));
    return;
  }
  if (mine !== open) return;
  at = open.chat.id;
  showHead();
  showList();
  considerReading();
}

function leaveChat() {
  if (!open) return;
  clearTimeout(reading);
  open = null;
}

function closeChat({ push = true } = {}) {
  if (!open) return;
  leaveChat();
  root.classList.remove("has-open");
  [$("choose").hidden, $("chat").hidden] = [false, true];
  if (push) writeAddress();
  showList();
  list.focus({ preventScroll: true });
}

function showHead() {
  const chat = open.chat;
  $("name").textContent = chat ? chat.name || words.noName : "";
  if (!chat) return;
  $("phone").textContent = chat.phone;
  $("phone").href = `tel:${chat.phone}`;
  $("phone").hidden = $("copy").hidden = !chat.phone;
  $("city").textContent = chat.city;
  $("account").textContent = chat.accountName ?? "";
  $("status").textContent = words.statuses[chat.status];
  $("status").hidden = chat.status === "active";
  $("item").textContent = chat.itemTitle || (chat.itemId ? `№ ${chat.itemId}` : "");
  if (webAddress(chat.itemUrl)) $("item").href = chat.itemUrl;
  else $("item").removeAttribute("href");
  const assignee = $("assignee");
  if (chat.assigneeId && ![...assignee.options].some(({ value }) => value === String(chat.assigneeId))) {
    assignee.add(new Option(nameOf(chat), chat.assigneeId));
  }
  assignee.value = chat.assigneeId ?? "";
  root.querySelector("[data-do=picture]").disabled = !chat.accountId;
  $("take").textContent = isMine(chat) ? words.giveBack : words.take;
  $("close").textContent = chat.status === "active" ? words.close : words.reopen;
  const known = new Set([...rows.values()].flatMap((row) => row.chat.tags));
  $("known-tags").replaceChildren(...[...known].sort().map((tag) => new Option(tag, tag)));
  $("tags").querySelector("[data-tags]").replaceChildren(...chat.tags.map(tagChip));
}

function tagChip(tag) {
  const chip = element("span", "inbox-chip", `#${tag}`);
  const button = element("button");
  [button.type, button.ariaLabel] = ["button", words.removeTag.replace("%s", tag)];
  button.append(icon("close"));
  button.addEventListener("click", () => change({ tags: open.chat.tags.filter((one) => one !== tag) }));
  chip.append(button);
  return chip;
}

async function change(fields) {
  const mine = open;
  if (!mine?.chat) return;
  try {
    takeChat(await call("PUT", chatPath(mine.chatId), { json: fields }));
  } catch (error) {
    if (mine !== open) return;
    showError(error);
    showHead();
  }
}

let reading = 0;

/** What is open in the foreground for a second has been read. */
function considerReading() {
  clearTimeout(reading);
  const mine = open;
  if (!mine?.isLoaded || !mine.chat?.unreadCount || document.visibilityState !== "visible") return;
  const state = `${mine.chat.unreadCount} of ${mine.chat.messagesCount}`;
  if (mine.wasRead === state) return;
  reading = setTimeout(() => {
    if (mine !== open || document.visibilityState !== "visible") return;
    mine.wasRead = state;
    call("POST", chatPath(mine.chatId, "/read")).catch(() => {}); // it stays unread, and is tried with the next message
  }, READ_AFTER);
}

// Messages

async function loadMessages({ older = false } = {}) {
  const [mine, since] = [open, events];
  if (older && (!mine.older || mine.isLoading)) return;
  mine.isLoading = true;
  try {
    const page = await call("GET", chatPath(mine.chatId, `/messages${older ? mine.older : "?limit=50"}`));
    if (mine !== open) return;
    const isGap = mine.isLoaded && !older && page.next && !page.results.some(({ id }) => mine.messages.has(id));
    if (isGap) mine.messages.clear(); // so much was missed that what came before is read again by scrolling up
    if (older || isGap || !mine.isLoaded) mine.older = page.next ? new URL(page.next).search : "";
    for (const message of page.results) {
      if (!isNewer(`message ${message.id}`, since)) mine.messages.set(message.id, message);
    }
    const isFirst = !mine.isLoaded;
    mine.isLoaded = true;
    log.ariaLive = isFirst || older ? "off" : "polite"; // what is old is not read out
    showMessages({ keepPlace: older });
    if (isFirst || older) setTimeout(() => (log.ariaLive = "polite"), 500);
  } finally {
    mine.isLoading = false;
  }
  // A page that leaves the pane half empty can not be scrolled up.
  if (mine === open && mine.older && pane.scrollHeight <= pane.clientHeight) await loadMessages({ older: true });
}

function takeMessage(message) {
  events += 1;
  heard.set(`message ${message.id}`, events);
  if (message.chatId === undefined) {
    if (open?.messages.delete(message.id)) showMessages();
    return;
  }
  if (message.chatId !== open?.chatId || (open.chat?.accountId && message.accountId !== open.chat.accountId)) return;
  const lane = lanes.get(open.chatId);
  // Perhaps it is the one that is just being handed over: its answer will tell.
  if (lane?.busy && message.direction === "outbound" && !open.messages.has(message.id)) lane.held.push(message);
  else putMessage(message);
}

function putMessage(message) {
  if (!open) return;
  const isNew = !open.messages.has(message.id);
  open.messages.set(message.id, message);
  if (!open.isLoaded) return;
  if (isNew && !open.isPinned) $("newer").hidden = false;
  showMessages();
}

const inOrder = (a, b) =>
  (a.isHere ?? 0) - (b.isHere ?? 0) || Date.parse(a.createdAt) - Date.parse(b.createdAt) || a.id - b.id;

function showMessages({ keepPlace = false } = {}) {
  const fromBottom = pane.scrollHeight - pane.scrollTop;
  const wanted = [];
  let day = "";
  for (const message of [...open.messages.values()].sort(inOrder)) {
    const its = dayOf(new Date(message.createdAt));
    if (its !== day) wanted.push(dayNode(its));
    day = its;
    wanted.push(messageNode(message));
  }
  if (!wanted.length) wanted.push(element("p", "inbox-more", words.noMessages));
  const kept = new Set(wanted);
  for (const node of [...log.children]) if (!kept.has(node)) node.remove();
  wanted.forEach((node, index) => log.children[index] !== node && log.insertBefore(node, log.children[index] ?? null));
  for (const id of open.nodes.keys()) if (!open.messages.has(id) && !String(id).startsWith("day ")) open.nodes.delete(id);
  if (keepPlace) pane.scrollTop = pane.scrollHeight - fromBottom;
  else if (open.isPinned) toBottom();
}

function dayNode(day) {
  const key = `day ${day}`;
  if (!open.nodes.has(key)) {
    const node = element("div", "inbox-day");
    node.append(element("span", "", day));
    open.nodes.set(key, node);
  }
  return open.nodes.get(key);
}

function messageNode(message) {
  const node = open.nodes.get(message.id) ?? $("message").content.firstElementChild.cloneNode(true);
  open.nodes.set(message.id, node);
  const written = JSON.stringify(message);
  if (node.written === written) return node;
  node.written = written;
  const [bubble, cause] = node.children;
  const [body, meta] = bubble.children;
  const isOut = message.direction === "outbound";
  node.className = `inbox-message is-${message.deliveryStatus}${isOut ? " is-out" : ""}`;
  node.dataset.message = message.id;
  if (message.type === "system") node.classList.add("is-system");
  if (message.type === "deleted") node.classList.add("is-note");
  const content = JSON.stringify([message.type, message.text, message.content]);
  if (node.content !== content) body.replaceChildren(...bodyOf(message)); // not anew while a voice is heard
  node.content = content;
  showTime(meta.children[0], new Date(message.createdAt), clock.format(new Date(message.createdAt)));
  const state = meta.children[1];
  state.hidden = !isOut || message.deliveryStatus === "received";
  if (isOut) showState(state, message);
  cause.hidden = !isOut || !message.error || message.deliveryStatus === "sent";
  cause.children[0].textContent = message.error ? causeOf(message.error) : "";
  cause.children[1].hidden = message.deliveryStatus !== "failed" || Boolean(message.messageId);
  return node;
}

const STATE_ICONS = { sending: "schedule", queued: "schedule", sent: "check", failed: "error", unknown: "help", read: "done_all" };

function showState(node, message) {
  const state = message.deliveryStatus === "sent" && message.readAt ? "read" : message.deliveryStatus;
  node.classList.toggle("is-read", state === "read");
  node.dataset.state = state;
  node.replaceChildren(icon(STATE_ICONS[state] ?? "check"), words.delivery[state] ?? state);
}

function causeOf({ code, detail }) {
  const known = words.causes[code];
  return known ? known.replace("%(text)s", words.proxyReasons[detail] ?? detail ?? "") : detail || code;
}

const KIND_ICONS = { call: "call", appCall: "call", file: "draft", video: "videocam", location: "location_on", item: "sell", image: "image" };

function bodyOf(message) {
  const { type, content } = message;
  if (type === "image") return [pictureOf(message)];
  if (type === "voice" && content.voice?.voice_id) return [voiceOf(message)];
  const address = webAddress(content.link?.url) || webAddress(content.item?.item_url);
  const said = address && address !== message.text ? [link(address, message.text)] : linked(message.text);
  if (!KIND_ICONS[type]) return said;
  const kind = element("span", "inbox-kind");
  const isMissed = content.call?.status === "missed";
  kind.classList.toggle("is-missed", isMissed);
  kind.append(icon(isMissed ? "phone_missed" : KIND_ICONS[type]), ...said);
  return [kind];
}

function link(address, shown) {
  const made = element("a", "", shown);
  Object.assign(made, { href: address, target: "_blank", rel: "noreferrer noopener" });
  return made;
}

function linked(said) {
  const parts = said.split(/(https?:\/\/[^\s<>"]*[^\s<>".,;:!?)\]»])/);
  return parts.map((part, index) => (index % 2 ? link(part, part) : document.createTextNode(part)));
}

function pictureOf({ content, here, text: said }) {
  const sizes = Object.entries(content.image?.sizes ?? {})
    .map(([size, address]) => [parseInt(size, 10) || 0, webAddress(address)])
    .filter(([, address]) => address)
    .sort(([a], [b]) => a - b);
  const small = here ?? sizes.find(([width]) => width >= 300)?.[1] ?? sizes.at(-1)?.[1];
  const kind = element("span", "inbox-kind", said);
  kind.prepend(icon("image"));
  if (!small) return kind;
  const button = element("button", "inbox-thumb");
  const image = element("img");
  Object.assign(image, { src: small, alt: words.picture, loading: "lazy", referrerPolicy: "no-referrer" });
  button.type = "button";
  button.append(image);
  image.addEventListener("error", () => button.replaceWith(kind)); // Avito has it no longer
  button.addEventListener("click", () => {
    $("large").querySelector("img").src = here ?? sizes.at(-1)[1];
    $("large").showModal();
  });
  return button;
}

/** Avito gives the address of a recording for an hour, so it is asked for when somebody wants to hear it. */
function voiceOf({ content, text: said }) {
  const id = content.voice.voice_id;
  const holder = element("span", "inbox-kind");
  const button = element("button", "inbox-button", words.listen);
  button.type = "button";
  button.prepend(icon("play_arrow"));
  holder.append(icon("mic"), said, button);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const path = `/messenger/accounts/${open.chat.accountId}/voice-files?ids=${encodeURIComponent(id)}`;
      const address = webAddress((await call("GET", path)).voicesUrls[id]);
      if (!address) throw new Refused("", words.noVoice);
      const audio = element("audio");
      Object.assign(audio, { controls: true, src: address });
      holder.replaceChildren(audio);
      audio.play().catch(() => {});
    } catch (error) {
      button.disabled = false;
      showError(error);
    }
  });
  return holder;
}

function toBottom() {
  pane.scrollTop = pane.scrollHeight;
  open.isPinned = true;
  $("newer").hidden = true;
}

async function retry(id) {
  const [mine, since] = [open, events];
  try {
    const message = await call("POST", chatPath(mine.chatId, `/messages/${id}/retry`));
    if (mine !== open) return;
    mine.isPinned = true; // it is now the newest
    putMessage(isNewer(`message ${id}`, since) ? mine.messages.get(id) : message);
  } catch (error) {
    if (mine === open) showError(error);
  }
}

// Writing

const lanes = new Map(); // chat id of Avito's -> {busy, held, line}: what is being handed over, one after the other
const failures = new Map(); // chat id of Avito's -> what went wrong there
// Not part of the page, where Unfold would take it for a field of its own forms.
const chooser = Object.assign(element("input"), { type: "file", accept: "image/jpeg,image/png,image/gif,image/bmp,image/heic" });
let picture = null; // {file, key, address}
let made = 0;

const drafts = {
  get: (chatId) => sessionStorage.getItem(`inbox-draft ${chatId}`) ?? "",
  set: (chatId, draft) =>
    draft ? sessionStorage.setItem(`inbox-draft ${chatId}`, draft) : sessionStorage.removeItem(`inbox-draft ${chatId}`),
};

function grow() {
  const length = [...text.value.trim()].length;
  $("count").textContent = `${length} / ${facts.textMax}`;
  $("count").classList.toggle("is-over", length > facts.textMax);
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

function setText(value) {
  text.value = value;
  drafts.set(open.chatId, value);
  grow();
}

function showError(error) {
  if (open) error ? failures.set(open.chatId, error) : failures.delete(open.chatId);
  const [said, a] = [$("error").querySelector("[data-text]"), $("error").querySelector("a")];
  said.textContent = error?.message ?? "";
  a.hidden = error?.code !== "signed_out";
  if (!a.hidden) [a.href, a.textContent] = [root.dataset.login, words.signIn];
  $("error").hidden = !error;
}

function send() {
  const said = text.value.trim();
  if (!open?.chat || (!said && !picture)) return;
  if ([...said].length > facts.textMax) return showError(new Refused("", words.tooLongText));
  showError(null);
  closeCanned();
  if (picture) sendPicture(picture);
  if (!said) return;
  const mine = open;
  const body = { type: "text", text: said, content: {} };
  setText("");
  handOver(body, () => call("POST", chatPath(mine.chatId, "/reply"), { json: { text: said } })).then((error) => {
    if (!error) return;
    if (error.code === "no_connection") mine.doubt = { said, known: new Set(mine.messages.keys()) };
    giveBack(mine, said, error.code === "no_connection" ? new Refused(error.code, words.inDoubt) : error);
  });
}

/** A text that was not taken goes back to where it was written, before what has been written since. */
function giveBack(mine, said, error) {
  const isOpen = mine.chatId === open?.chatId;
  const whole = [said, isOpen ? text.value : drafts.get(mine.chatId)].filter(Boolean).join("\n");
  failures.set(mine.chatId, error);
  drafts.set(mine.chatId, whole);
  if (!isOpen) return;
  setText(whole);
  showError(error);
}

function sendPicture(chosen) {
  const mine = open;
  const path = `/messenger/accounts/${mine.chat.accountId}/chats/${encodeURIComponent(mine.chatId)}/send`;
  const body = new FormData();
  body.append("image", chosen.file, chosen.file.name || "picture");
  const known = new Set(mine.messages.keys());
  const shown = { type: "image", text: words.picture, content: {}, here: chosen.address };
  hidePicture();
  handOver(shown, () => call("POST", path, { body, headers: { "Idempotency-Key": chosen.key }, seconds: 120 })).then(
    async (error) => {
      if (mine !== open) return;
      await loadMessages().catch(() => {});
      if (!error) URL.revokeObjectURL(chosen.address);
      if (!error || mine !== open) return;
      // Once it stands in the chat, its row there tells its fate, and has the button to try again.
      const isThere = [...mine.messages.values()].some(
        (one) => one.type === "image" && one.direction === "outbound" && !known.has(one.id) && !one.isHere,
      );
      if (isThere && error.code !== "no_connection") return showError(null);
      const inDoubt = ["no_connection", "avito_timeout", "in_progress"].includes(error.code);
      showPicture(chosen);
      showError(inDoubt ? new Refused("", words.pictureInDoubt) : error);
    },
  );
}

/** Show at once what is being handed over, until the service has it; returns what went wrong, or null. */
async function handOver(shown, request) {
  const mine = open;
  const lane = lanes.get(mine.chatId) ?? { busy: 0, held: [], line: Promise.resolve() };
  lanes.set(mine.chatId, lane);
  const id = `here ${++made}`;
  const now = new Date().toISOString();
  const rest = { direction: "outbound", deliveryStatus: "sending", createdAt: now, error: null, readAt: null };
  mine.messages.set(id, { ...shown, ...rest, id, isHere: made });
  mine.isPinned = true;
  showMessages();
  lane.busy += 1;
  const turn = lane.line.then(request);
  lane.line = turn.catch(() => {});
  const [stored, error] = await turn.then((given) => [given, null], (refused) => [null, refused]);
  lane.busy -= 1;
  mine.messages.delete(id);
  if (open?.chatId === mine.chatId) {
    if (stored?.deliveryStatus) open.messages.set(stored.id, stored); // a picture's answer is Avito's, not the row
    if (!lane.busy) for (const message of lane.held.splice(0)) open.messages.set(message.id, message);
    if (open.isLoaded) showMessages();
  }
  if (!lane.busy) lane.held.length = 0;
  return error;
}

/** After a broken connection: has the text arrived all the same? Then it need not be sent again. */
function settleDoubt() {
  const doubt = open?.doubt;
  if (!doubt) return;
  const arrived = [...open.messages.values()].some(
    (one) => one.direction === "outbound" && one.text === doubt.said && !doubt.known.has(one.id) && !one.isHere,
  );
  if (arrived && text.value.trim() === doubt.said) {
    setText("");
    showError(null);
  }
  open.doubt = null;
}

function takePicture(file) {
  if (!file) return;
  if (!file.type.startsWith("image/") || file.size > facts.imageMaxBytes) return showError(new Refused("", words.notAPicture));
  showError(null);
  dropPicture();
  showPicture({ file, key: randomKey(), address: URL.createObjectURL(file) });
  text.focus();
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function showPicture(chosen) {
  picture = chosen;
  const [image, name] = $("picture").children;
  [image.src, name.textContent, $("picture").hidden] = [chosen.address, chosen.file.name || words.picture, false];
}

function hidePicture() {
  [picture, chooser.value, $("picture").hidden] = [null, "", true];
}

function dropPicture() {
  if (picture) URL.revokeObjectURL(picture.address);
  hidePicture();
}

// Canned replies

const canned = $("canned");
const cannedButton = root.querySelector("[data-do=canned]");
let choice = 0;
let wishes = 0;

async function openCanned() {
  const [mine, wish] = [open, ++wishes];
  try {
    mine.canned ??= await call("GET", chatPath(mine.chatId, "/canned-replies"));
  } catch (error) {
    return mine === open && showError(error);
  }
  if (mine !== open || wish !== wishes) return;
  const asked = text.value.startsWith("/") ? text.value.slice(1).toLowerCase() : "";
  const found = mine.canned.filter((one) => `${one.title}\n${one.text}`.toLowerCase().includes(asked));
  const options = found.map((one) => {
    const option = element("li");
    option.role = "option";
    option.append(element("strong", "", one.title + (one.isTooLong ? ` (${words.tooLong})` : "")), element("span", "", one.text));
    if (one.isTooLong) option.ariaDisabled = "true";
    option.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the text
    option.addEventListener("click", () => useCanned(one));
    option.use = () => useCanned(one);
    return option;
  });
  canned.replaceChildren(...(options.length ? options : [element("li", "", words.noCanned)]));
  canned.hidden = false;
  cannedButton.ariaExpanded = "true";
  choose(0);
}

function closeCanned() {
  wishes += 1;
  canned.hidden = true;
  cannedButton.ariaExpanded = "false";
}

function choose(index) {
  const options = [...canned.querySelectorAll("[role=option]")];
  choice = (index + options.length) % (options.length || 1);
  options.forEach((option, place) => (option.ariaSelected = String(place === choice)));
  options[choice]?.scrollIntoView({ block: "nearest" });
}

function useCanned(one) {
  if (one.isTooLong) return;
  const written = text.value.startsWith("/") ? "" : text.value.trimEnd();
  setText(written ? `${written}\n${one.text}` : one.text);
  closeCanned();
  text.focus();
}

// Live

let source = null;
let lastEvent = "";
let awaySince = 0;
let pause = 1000;
let again = 0;
let barLater = 0;
const isOffline = () => !$("offline").hidden;

function listen() {
  source?.close();
  clearTimeout(again);
  source = new EventSource(`${root.dataset.api}/events${lastEvent ? `?lastEventId=${lastEvent}` : ""}`);
  const takes = { "chat.created": takeChat, "chat.updated": takeChat, "message.created": takeMessage, "message.updated": takeMessage };
  for (const [type, take] of Object.entries(takes)) {
    source.addEventListener(type, (event) => {
      lastEvent = event.lastEventId;
      take(JSON.parse(event.data));
    });
  }
  source.addEventListener("open", () => {
    clearTimeout(barLater);
    $("offline").hidden = true;
    pause = 1000;
    // Without a number to go on from, or after long, what was missed is read rather than waited for.
    if (!lastEvent || (awaySince && Date.now() - awaySince > LONG_AWAY)) refresh();
    else if (awaySince) settleDoubt();
    awaySince = 0;
  });
  source.addEventListener("error", () => lost(source.readyState === EventSource.CLOSED));
}

function lost(isRefused) {
  awaySince ||= Date.now();
  clearTimeout(barLater);
  barLater = setTimeout(() => ($("offline").hidden = false), navigator.onLine ? 700 : 0);
  if (!isRefused) return; // the browser tries by itself
  clearTimeout(again);
  again = setTimeout(listen, pause);
  pause = Math.min(pause * 2, 30_000);
  call("GET", "/auth/me").then(
    () => ($("offline").querySelector("a").hidden = true),
    (error) => ($("offline").querySelector("a").hidden = error.status !== 401),
  );
}

async function refresh() {
  loadList({ anew: true, quietly: rows.size > 0 });
  loadUnread();
  if (!open?.isLoaded) return;
  const mine = open;
  try {
    const chat = await call("GET", chatPath(mine.chatId));
    await loadMessages();
    if (mine !== open) return;
    takeChat(chat);
    settleDoubt();
  } catch {
    // whoever is still offline sees it, and tries again
  }
}

// The mouse, the keys, the window

const deeds = {
  back: () => closeChat(),
  keys: () => $("keys").showModal(),
  whole: (button) => (button.ariaExpanded = String($("head").classList.toggle("is-whole"))),
  take: () => change({ assigneeId: isMine(open.chat) ? null : facts.me }),
  close: () => change({ status: open.chat.status === "active" ? "closed" : "active" }),
  newer: () => toBottom(),
  canned: () => (canned.hidden ? openCanned() : closeCanned(), text.focus()),
  picture: () => chooser.click(),
  "no-picture": () => dropPicture(),
  retry: (button) => retry(Number(button.closest("[data-message]").dataset.message)),
  copy: async (button) => {
    await navigator.clipboard?.writeText(open.chat.phone).catch(() => {});
    button.replaceChildren(icon("check"));
    button.title = words.copied;
    setTimeout(() => button.replaceChildren(icon("content_copy")), 1500);
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) return void deeds[button.dataset.do](button);
  const row = event.target.closest("[data-chat]");
  if (row) {
    const { chat } = rows.get(Number(row.dataset.chat));
    at = chat.id;
    openChat(chat.chatId, { chat });
  }
});
$("nothing").querySelector("button").addEventListener("click", () => {
  Object.assign(filters, NO_FILTERS);
  writeAddress();
  filtersOfAddress();
  hintOfSearch();
  loadList({ anew: true });
});

function hintOfSearch() {
  const length = [...form.search.value.trim()].length;
  $("search-hint").hidden = !length || length >= facts.searchMin;
  return !length || length >= facts.searchMin;
}

const search = () => hintOfSearch() && apply({ search: form.search.value.trim() }, { replace: Boolean(filters.search) });
const searchSoon = soon(search, 300);
form.search.addEventListener("input", () => {
  hintOfSearch();
  searchSoon();
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
$("filters").addEventListener("change", ({ target }) => {
  if (target === form.unread) apply({ unread: target.checked ? "true" : "" });
  else if (target !== form.search) apply({ [target.name]: target.value });
});
$("scroll").addEventListener("scroll", goOnIfSeen, { passive: true });
let seenTop = 0;
pane.addEventListener(
  "scroll",
  () => {
    if (!open) return;
    const isUp = pane.scrollTop < seenTop; // what has grown meanwhile is no wish to leave the end
    seenTop = pane.scrollTop;
    if (pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40) [open.isPinned, $("newer").hidden] = [true, true];
    else if (isUp) open.isPinned = false;
    if (pane.scrollTop < 200 && open.isLoaded) loadMessages({ older: true }).catch(showError);
  },
  { passive: true },
);
$("assignee").addEventListener("change", ({ target }) => change({ assigneeId: target.value ? Number(target.value) : null }));
$("tag-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = event.target.elements.tag;
  const tag = input.value.trim().replace(/^#/, "");
  if (tag && !open.chat.tags.includes(tag)) change({ tags: [...open.chat.tags, tag] });
  input.value = "";
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
chooser.addEventListener("change", ({ target }) => takePicture(target.files[0]));
text.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});
text.addEventListener("input", () => {
  drafts.set(open.chatId, text.value);
  grow();
  if (text.value.startsWith("/") && !text.value.includes("\n")) openCanned();
  else closeCanned();
});
text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (!canned.hidden && steps[event.key]) {
    event.preventDefault();
    choose(choice + steps[event.key]);
  } else if (event.key === "Enter" && !event.shiftKey) {
    const option = canned.hidden ? null : canned.querySelectorAll("[role=option]")[choice];
    if (!option && !matchMedia("(hover: hover)").matches && matchMedia("(pointer: coarse)").matches) return; // has no Shift
    event.preventDefault();
    if (option) option.use();
    else send();
  }
});

// By the key's place, as Russian letters stand there too.
const keys = {
  KeyJ: () => walk(1),
  KeyK: () => walk(-1),
  ArrowDown: () => walk(1),
  ArrowUp: () => walk(-1),
  Enter: () => rows.has(at) && openChat(rows.get(at).chat.chatId, { chat: rows.get(at).chat }),
  "/": () => form.search.focus(),
  KeyR: () => open && text.focus(),
  KeyU: () => nextUnread(),
  "?": () => $("keys").showModal(),
};
const signs = { "/": "/", "?": "?", ".": "/", ",": "?" }; // the latter two: the same key in the Russian layout
const WITHIN_LIST = new Set(["ArrowDown", "ArrowUp", "Enter"]);

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (key === "Escape") return void goBack(target);
  if (target.closest("input:not([type=checkbox]), textarea, select, [contenteditable=true]")) return;
  const name = key === "/" || key === "?" || event.code === "Slash" ? signs[key] : event.code;
  if (!keys[name] || (WITHIN_LIST.has(name) && target !== document.body && target !== list)) return;
  event.preventDefault();
  event.stopPropagation(); // Unfold has a "/" of its own
  keys[name]();
});

function goBack(target) {
  if (!canned.hidden) closeCanned();
  else if (target === text || $("filters").contains(target) || $("chat").contains(target)) list.focus({ preventScroll: true });
  else closeChat();
}

document.addEventListener("visibilitychange", () => considerReading());
window.addEventListener("offline", () => lost(false));
window.addEventListener("online", () => listen());
window.addEventListener("pageshow", (event) => event.persisted && listen());
window.addEventListener("pagehide", () => source?.close());
window.addEventListener("popstate", () => {
  const before = JSON.stringify(filters);
  filtersOfAddress();
  hintOfSearch();
  if (JSON.stringify(filters) !== before) loadList({ anew: true });
  openOfAddress();
});
// Whatever grows or shrinks, such as a voice, the composer or the window: who was at the end stays there.
const keepEnd = new ResizeObserver(() => open?.isPinned && toBottom());
keepEnd.observe(log);
keepEnd.observe(pane);
// A telephone's keyboard covers the page rather than shrinking it.
visualViewport?.addEventListener("resize", () => {
  document.documentElement.style.setProperty("--inbox-height", `${visualViewport.height}px`);
});
let today = dateOf(new Date());
setInterval(() => {
  if (today === dateOf(new Date())) return;
  today = dateOf(new Date());
  rows.forEach(fillRow);
  if (open?.isLoaded) showMessages();
}, 60_000);

function openOfAddress() {
  const chatId = new URLSearchParams(location.search).get("chat");
  if (chatId) openChat(chatId, { push: false, chat: [...rows.values()].find(({ chat }) => chat.chatId === chatId)?.chat });
  else closeChat({ push: false });
}

for (const { id, name } of facts.accounts) form.accountId.add(new Option(name, id));
form.accountId.hidden = facts.accounts.length < 2;
for (const { id, name } of facts.people) $("assignee").add(new Option(id === facts.me ? `${name} (${words.me})` : name, id));
$("newer").querySelector("[data-text]").textContent = words.newMessages;
filtersOfAddress();
listen();
loadList({ anew: true });
loadUnread();
openOfAddress();
