// What is on the screen. Everything that people wrote becomes text nodes, never markup.

import { State } from "./connection.js";

const WORDS = {
  [State.CONNECTING]: "Connecting",
  [State.ONLINE]: "Online",
  [State.OFFLINE]: "Offline",
  [State.REFUSED]: "Refused",
};
// Messages of one person within this time stand together.
const TOGETHER_MS = 3 * 60_000;
const NEAR_BOTTOM_PX = 80;
const TONES = 8;
const LINK = /https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?()[\]{}]/g;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const byId = (id) => document.getElementById(id);

const narrow = matchMedia("(max-width: 60rem)");
export const isNarrow = () => narrow.matches;
narrow.addEventListener("change", () => closePanels());

function element(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, ...others } = properties;
  const made = Object.assign(document.createElement(tag), others);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const hiddenText = (text) => element("span", { className: "hidden-text" }, text);

// Whatever the direction of a name, the words around it keep theirs.
const nameOf = (text) => element("bdi", {}, text);

// --- the state of the connection

let countdown = 0;

/** @param {{state: string, reason: string, retryAt: number | null}} detail */
export function showState({ state, reason, retryAt }) {
  const word = WORDS[state];
  document.body.dataset.state = state;
  byId("pill").dataset.state = state;
  byId("pill-text").textContent = word;
  byId("banner").hidden = state === State.ONLINE;
  byId("banner").dataset.state = state;
  byId("state").textContent = state === State.CONNECTING ? `${word}…` : `${word}.`;
  byId("reason").textContent = reason;
  byId("retry").hidden = retryAt === null;
  byId("entry-join").textContent = state === State.CONNECTING ? "Joining…" : "Join";
  clearInterval(countdown);
  byId("countdown").textContent = "";
  if (retryAt !== null) {
    const tick = () => {
      const seconds = Math.max(0, Math.round((retryAt - Date.now()) / 1000));
      byId("countdown").textContent = `Next try in ${seconds} s`;
    };
    tick();
    countdown = setInterval(tick, 1000);
  }
  // Attempts come and go; what is heard is the state in between.
  const announced = state === State.CONNECTING ? "" : `${word}. ${reason}`.trim();
  if (announced && byId("announcement").textContent !== announced) {
    byId("announcement").textContent = announced;
  }
}

/** Nobody has asked for a connection. */
export function showNoState() {
  byId("banner").hidden = true;
  byId("announcement").textContent = "";
  byId("entry-join").textContent = "Join";
  delete document.body.dataset.state;
  clearInterval(countdown);
}

// --- which view

export function showEntry() {
  byId("entry").hidden = false;
  byId("chat").hidden = true;
  closePanels();
}

export function showChat() {
  byId("entry").hidden = true;
  byId("chat").hidden = false;
}

export function openPanel(name) {
  byId(`${name}-panel`).classList.add("open");
  byId(`show-${name}`).setAttribute("aria-expanded", "true");
  byId("backdrop").classList.add("open");
  byId("talk").inert = true;
  byId(`${name}-panel`).querySelector("button.close").focus();
}

/** Close what is open over the room on a narrow screen. Returns whether there was something. */
export function closePanels() {
  const open = document.querySelector(".panel.open");
  if (open === null) return false;
  open.classList.remove("open");
  byId("backdrop").classList.remove("open");
  byId("talk").inert = false;
  const opener = document.querySelector(`[aria-controls="${open.id}"]`);
  opener.setAttribute("aria-expanded", "false");
  opener.focus();
  return true;
}

// --- rooms and people

export function showRooms(rooms, active, others) {
  const own = rooms.map((room) => {
    const label = element("span", { className: "label" }, nameOf(room.name));
    const badge = room.unread
      ? element("span", { className: "badge" }, String(room.unread), hiddenText(" unread"))
      : null;
    const away = room.problem ? element("span", { className: "away" }, "not in") : null;
    const aria = room === active ? { current: "true" } : {};
    const button = element(
      "button",
      { type: "button", className: "room", data: { room: room.name }, aria },
      hash(), label, away, badge,
    );
    return element("li", {}, button);
  });
  replaceKeepingFocus(byId("own-rooms"), own);
  const known = new Set(rooms.map((room) => room.name));
  const more = others.filter(({ room }) => !known.has(room)).map(({ room, people }) => {
    const count = element("span", { className: "count" }, String(people), hiddenText(" there"));
    const label = element("span", { className: "label" }, nameOf(room));
    const button = element(
      "button", { type: "button", className: "room", data: { other: room } },
      hash(), label, count,
    );
    return element("li", {}, button);
  });
  replaceKeepingFocus(byId("other-rooms"), more);
  byId("other-rooms-part").hidden = more.length === 0;

  const unread = rooms.reduce((sum, room) => sum + room.unread, 0);
  const elsewhere = unread - (active?.unread ?? 0);
  byId("elsewhere").hidden = elsewhere === 0;
  byId("elsewhere").replaceChildren(String(elsewhere), hiddenText(" unread"));
  const place = active === null ? "Chat" : `${active.name} · Chat`;
  document.title = unread ? `(${unread}) ${place}` : place;
}

const hash = () => element("span", { className: "hash", aria: { hidden: "true" } }, "#");

function replaceKeepingFocus(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset : null;
  list.replaceChildren(...items);
  if (focused === null) return;
  const [[kind, name]] = Object.entries(focused);
  const same = [...list.querySelectorAll("button")].find((one) => one.dataset[kind] === name);
  (same ?? byId("room-title")).focus();
}

export function showPeople(room) {
  const people = [...room.people].map(([author, name]) => {
    const you = author === room.me?.author ? element("span", { className: "you" }, "you") : null;
    return element("li", { className: "person" }, avatar(author, name), nameOf(name), you);
  });
  if (!room.here) {
    people.splice(0, people.length, element("li", { className: "unknown" }, "Not known now"));
  }
  byId("people").replaceChildren(...people);
  byId("people-count").textContent = room.here ? String(room.people.size) : "?";
}

function avatar(author, name) {
  let sum = 0;
  for (const letter of author) sum = (sum * 31 + letter.codePointAt(0)) % 65_521;
  const initial = [...name][0]?.toUpperCase() ?? "?";
  const className = `avatar tone-${sum % TONES}`;
  return element("span", { className, aria: { hidden: "true" } }, initial);
}

// --- messages

const log = () => byId("log");

export function isAtBottom() {
  const { scrollHeight, scrollTop, clientHeight } = log();
  return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
}

export function scrollToBottom() {
  log().scrollTop = log().scrollHeight;
}

// A banner or a keyboard takes room away, and what was in view at the bottom stays there.
let wasAtBottom = true;
log().addEventListener("scroll", () => {
  wasAtBottom = isAtBottom();
});
new ResizeObserver(() => {
  if (wasAtBottom) scrollToBottom();
}).observe(log());

/** Show a room from the beginning, at its first unread message or at its end. */
export function showRoom(room) {
  byId("room-title").replaceChildren(hash(), nameOf(room.name));
  byId("text").placeholder = `Message #${room.name}`;
  showMessages(room);
  const divider = byId("messages").querySelector(".unread-from");
  scrollToBottom();
  if (divider !== null && divider.offsetTop < log().scrollTop) {
    log().scrollTop = divider.offsetTop - 16;
  }
}

/** Show a room's messages again; what is in view stays in view. */
export function showMessages(room) {
  const atBottom = isAtBottom();
  // Reading everything again would be no help: only what is added later is.
  log().setAttribute("aria-live", "off");
  const items = [];
  room.entries.forEach((entry, place) => items.push(...entryItems(room, entry, place)));
  if (room.problem) items.push(problemItem(room));
  if (items.length === 0) items.push(emptyItem(room));
  byId("messages").replaceChildren(...items);
  if (atBottom) scrollToBottom();
  requestAnimationFrame(() => log().setAttribute("aria-live", "polite"));
}

/** Show an entry that has been added to a room. */
export function showEntryAdded(room, entry) {
  const isOnlyAppended = room.entries.at(-1) === entry && room.entries.length > 1 && !room.problem;
  // One's own takes the place of the one that was on its way.
  if (!isOnlyAppended || room.isOwn(entry)) {
    showMessages(room);
    return;
  }
  const atBottom = isAtBottom();
  if (entry.id === room.firstUnread) byId("messages").querySelector(".unread-from")?.remove();
  byId("messages").append(...entryItems(room, entry, room.entries.length - 1));
  if (atBottom) scrollToBottom();
}

function entryItems(room, entry, place) {
  const before = room.entries[place - 1];
  const items = [];
  const isNewDay = before !== undefined && !isSameDay(before.at, entry.at);
  if (isNewDay) items.push(dividerItem("day", day.format(entry.at)));
  const isFirstUnread = entry.kind === "message" && entry.id !== null && entry.id === room.firstUnread;
  if (isFirstUnread) items.push(dividerItem("unread-from", "New"));
  if (entry.kind === "notice") {
    items.push(element("li", { className: "notice" }, nameOf(entry.text), " ", timeOf(entry.at)));
    return items;
  }
  const follows =
    !isNewDay && !isFirstUnread && before?.kind === "message" &&
    before.author === entry.author && before.name === entry.name &&
    entry.at - before.at < TOGETHER_MS;
  items.push(messageItem(room, entry, follows));
  return items;
}

function messageItem(room, entry, follows) {
  const own = room.isOwn(entry);
  const className = ["message", own && "own", follows && "follows", entry.status]
    .filter(Boolean).join(" ");
  const byline = element("p", { className: follows ? "hidden-text" : "byline" });
  byline.append(own ? "You" : nameOf(entry.name));
  const text = element("p", { className: "text", dir: "auto" });
  text.append(...withLinks(entry.text));
  const foot = element("p", { className: "foot" });
  if (entry.status === "sending") foot.append("Sending…");
  else if (entry.status === "failed") foot.append(...failedParts(entry));
  else {
    foot.append(timeOf(entry.at));
    text.dataset.time = foot.textContent;
  }
  const bubble = element("div", { className: "bubble" }, byline, text, foot);
  return element("li", { className }, own ? null : avatar(entry.author, entry.name), bubble);
}

function failedParts(entry) {
  const again = element(
    "button", { type: "button", className: "inline", data: { again: entry.ref } }, "Send again",
  );
  const away = element(
    "button", { type: "button", className: "inline", data: { discard: entry.ref } }, "Discard",
  );
  return [element("strong", {}, "Not sent."), " ", again, " ", away];
}

function dividerItem(className, text) {
  return element("li", { className: `divider ${className}` }, element("span", {}, text));
}

function emptyItem(room) {
  const text = room.here
    ? "Nothing was said here in the last minutes. Say hello, or share this page’s address."
    : "Waiting for the room…";
  return element("li", { className: "empty" }, text);
}

function problemItem(room) {
  const again = element(
    "button", { type: "button", className: "secondary", data: { rejoin: room.name } }, "Try again",
  );
  return element(
    "li", { className: "refusal" },
    element("p", {}, element("strong", {}, "You are not in this room. "), room.problem), again,
  );
}

function timeOf(at) {
  const date = new Date(at);
  return element(
    "time", { dateTime: date.toISOString(), title: full.format(date) }, clock.format(date),
  );
}

function isSameDay(one, other) {
  return new Date(one).toDateString() === new Date(other).toDateString();
}

function withLinks(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    parts.push(text.slice(end, match.index));
    parts.push(
      element("a", { href: match[0], target: "_blank", rel: "noopener noreferrer" }, match[0]),
    );
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/** Show or hide what leads back to the newest message. */
export function showNewer(room) {
  byId("newer").hidden = isAtBottom();
  const count = room?.unread ?? 0;
  byId("newer-text").textContent = count ? `${count} new` : "Newest";
}
