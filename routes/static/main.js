// The chat: what people do, what the gateway says, and what follows from it.

import { Connection, State } from "./connection.js";
import { Room } from "./room.js";
import {
  byId,
  closePanels,
  isAtBottom,
  isNarrow,
  openPanel,
  scrollToBottom,
  showChat,
  showEntry,
  showEntryAdded,
  showMessages,
  showNewer,
  showNoState,
  showPeople,
  showRoom,
  showRooms,
  showState,
} from "./view.js";

const DELIVERY_MS = 10_000;
const TEXT_SIZE_MAX = 2000;
const TEXT_SIZE_NOTED = 1800;
const LOBBY = "lobby";

const rooms = new Map();
let active = null;
let others = [];

const connection = new Connection(new URLSearchParams(location.search).get("stage"));

// --- what outlives the page

// It proves to the chat that a connection which was lost is this page's. It is stored only while
// the page is away, so that a copy of this tab does not have it.
let session = token();

function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Storage may be switched off.
function stored(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function store(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch {
    // Then it is not remembered.
  }
}

addEventListener("pagehide", () => {
  if (active === null) return;
  const places = [...rooms.values()].map((room) => [room.name, room.wantedName]);
  store("sessionStorage", "chat", JSON.stringify({ session, places, active: active.name }));
});

function comeBack() {
  const text = stored("sessionStorage", "chat");
  store("sessionStorage", "chat", null);
  if (text === null) return false;
  const before = JSON.parse(text);
  session = before.session;
  for (const [room, name] of before.places) rooms.set(room, new Room(room, name));
  const asked = roomInAddress();
  if (asked && !rooms.has(asked)) rooms.set(asked, new Room(asked, before.places[0][1]));
  activate(rooms.get(asked) ?? rooms.get(before.active));
  connection.open();
  return true;
}

addEventListener("pageshow", (event) => {
  // The page was kept while another one was shown; its connection was not.
  if (event.persisted && active !== null) connection.open();
});

// --- coming in, moving about, going out

/** Spell a room's name as the chat does. */
function roomName(text) {
  return text.normalize("NFKC").replace(/\s/g, " ").replace(/\p{C}/gu, "").trim()
    .replace(/ +/g, " ").toLowerCase();
}

/** Return the room of an address that ends in #room=lobby. */
function roomInAddress() {
  return roomName(new URLSearchParams(location.hash.slice(1)).get("room") ?? "");
}

function enter(name, roomText) {
  const room = new Room(roomName(roomText) || LOBBY, name);
  store("localStorage", "name", name);
  rooms.clear();
  rooms.set(room.name, room);
  active = null;
  connection.open();
}

function join(room) {
  connection.send({ action: "join", room: room.name, name: room.wantedName, session });
}

function addRoom(name) {
  let room = rooms.get(name);
  if (room === undefined) {
    room = new Room(name, active.wantedName);
    rooms.set(name, room);
    join(room);
  }
  activate(room);
}

function activate(room) {
  if (active !== null) {
    active.draft = byId("text").value;
    active.firstUnread = null;
  }
  active = room;
  history.replaceState(null, "", `#${new URLSearchParams({ room: room.name })}`);
  showChat();
  showRoom(room);
  showPeople(room);
  byId("text").value = room.draft;
  fitComposer();
  read();
  refreshRooms();
}

function leave(room) {
  rooms.delete(room.name);
  if (room.here) connection.send({ action: "leave", room: room.name });
  if (rooms.size === 0) {
    connection.close();
    showNoState();
    backToEntry(room.wantedName, room.name);
    return;
  }
  if (room === active) {
    active = null;
    activate([...rooms.values()].at(-1));
  } else {
    refreshRooms();
  }
}

function backToEntry(name, room) {
  rooms.clear();
  active = null;
  byId("entry-name").value = name;
  byId("entry-room").value = room;
  showEntry();
  refreshRooms();
  const first = byId("entry-name").value ? byId("entry-room") : byId("entry-name");
  first.focus();
}

function refreshRooms() {
  showRooms([...rooms.values()], active, others);
}

// --- what the connection tells

connection.addEventListener("state", ({ detail }) => {
  if (detail.state !== State.ONLINE) {
    for (const room of rooms.values()) room.lost();
    if (active !== null) showPeople(active);
  }
  showState(detail);
  // What was noted before stays: attempts come and go.
  if (detail.state === State.ONLINE) noteText();
  else markSend();
});

connection.addEventListener("open", () => {
  for (const room of rooms.values()) join(room);
});

const told = {
  welcome(message) {
    others = message.rooms;
    const room = rooms.get(message.room);
    if (room === undefined) return;
    const missed = room.welcome(message);
    if (active === null) {
      activate(room);
      focusText();
      return;
    }
    for (const entry of missed) receive(room, entry);
    if (room === active) {
      showMessages(room);
      showPeople(room);
      noteText();
    }
    refreshRooms();
  },

  refused(message) {
    const room = rooms.get(message.room) ?? [...rooms.values()].find((one) => !one.here);
    if (active === null) {
      const { name, wantedName } = room;
      connection.close(message.text);
      backToEntry(wantedName, name);
      return;
    }
    if (room === undefined) return;
    room.problem = message.text;
    if (room === active) showMessages(room);
    refreshRooms();
  },

  joined(message) {
    change(message, (room) => room.joined(message));
  },

  left(message) {
    // One's own: the room may have been empty then.
    if (!rooms.has(message.room)) connection.send({ action: "rooms" });
    change(message, (room) => room.left(message));
  },

  message(message) {
    const room = rooms.get(message.room);
    const entry = room?.add(message);
    if (!entry) return;
    if (!room.isOwn(entry)) receive(room, entry);
    if (room === active) showEntryAdded(room, entry);
    showNewer(active);
    refreshRooms();
  },

  rooms(message) {
    others = message.rooms;
    refreshRooms();
  },

  error(message) {
    if (message.ref) failed(message.ref);
    if (message.reason === "nowhere") {
      // The chat has lost its memory.
      for (const room of rooms.values()) join(room);
    } else {
      note(message.text);
    }
  },
};

connection.addEventListener("message", ({ detail }) => told[detail.type]?.(detail));

function change(message, apply) {
  const room = rooms.get(message.room);
  if (room === undefined) return;
  const notice = apply(room);
  if (room !== active) return;
  showPeople(room);
  if (notice) showEntryAdded(room, notice);
}

// --- reading

function isReading(room) {
  return (
    room === active && document.visibilityState === "visible" && document.hasFocus() &&
    isAtBottom()
  );
}

function receive(room, entry) {
  if (!isReading(room)) room.markUnread(entry);
}

function read() {
  if (active === null || !isReading(active)) return;
  active.markRead();
  refreshRooms();
  showNewer(active);
}

addEventListener("focus", read);
document.addEventListener("visibilitychange", read);
byId("log").addEventListener("scroll", () => {
  if (active === null) return;
  read();
  showNewer(active);
});
byId("newer").addEventListener("click", () => {
  scrollToBottom();
  focusText();
});

// --- writing

function send() {
  const text = byId("text").value.trim();
  if (!text || active === null) return;
  if (!active.here || !deliver(active, text)) {
    note("Not sent, you are not connected. Your text stays here.");
    return;
  }
  byId("text").value = "";
  active.firstUnread = null;
  fitComposer();
  noteText();
  scrollToBottom();
}

function deliver(room, text) {
  const ref = token();
  if (!connection.send({ action: "sendmessage", room: room.name, text, ref })) return false;
  room.sending(ref, text);
  showMessages(room);
  setTimeout(() => failed(ref), DELIVERY_MS);
  return true;
}

function failed(ref) {
  for (const room of rooms.values()) {
    if (room.failed(ref) && room === active) showMessages(room);
  }
}

function note(text) {
  if (byId("text-note").textContent !== text) byId("text-note").textContent = text;
}

function noteText() {
  const size = byId("text").value.length;
  note(size >= TEXT_SIZE_NOTED ? `${size} of ${TEXT_SIZE_MAX} characters` : "");
  markSend();
}

function markSend() {
  byId("send").classList.toggle("idle", !byId("text").value.trim() || !active?.here);
}

/** Let the field grow with its text; the style sheet bounds it. */
function fitComposer() {
  const field = byId("text");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

function focusText() {
  // On a phone it would bring up the keyboard.
  if (isNarrow()) byId("room-title").focus();
  else byId("text").focus();
}

byId("text").addEventListener("input", () => {
  fitComposer();
  noteText();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  byId("text").focus();
});

byId("messages").addEventListener("click", ({ target }) => {
  const { again, discard, rejoin } = target.dataset ?? {};
  if (rejoin !== undefined) {
    join(rooms.get(rejoin));
    return;
  }
  const ref = again ?? discard;
  if (ref === undefined) return;
  const entry = active.entries.find((one) => one.status === "failed" && one.ref === ref);
  if (discard !== undefined || deliver(active, entry.text)) active.discard(ref);
  else note("Not sent, you are not connected.");
  showMessages(active);
  byId("text").focus();
});

// --- rooms, panels, keys

document.querySelector(".skip").addEventListener("click", (event) => {
  // The address keeps its room.
  event.preventDefault();
  byId("text").focus();
});

byId("entry-form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(byId("entry-name").value.trim(), byId("entry-room").value);
});

byId("retry").addEventListener("click", () => connection.open());

byId("leave").addEventListener("click", () => {
  leave(active);
  if (active !== null) byId("room-title").focus();
});

byId("add-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomName(byId("add-room").value);
  if (!name) return;
  byId("add-room").value = "";
  addRoom(name);
  closePanels();
  focusText();
});

byId("rooms-panel").addEventListener("click", ({ target }) => {
  const { room, other } = target.closest("button.room")?.dataset ?? {};
  if (room === undefined && other === undefined) return;
  if (room !== undefined) activate(rooms.get(room));
  else addRoom(other);
  closePanels();
  focusText();
});

for (const name of ["rooms", "people"]) {
  byId(`show-${name}`).addEventListener("click", () => openPanel(name));
  byId(`${name}-panel`).querySelector("button.close").addEventListener("click", closePanels);
}
byId("backdrop").addEventListener("click", closePanels);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && closePanels()) {
    event.preventDefault();
  } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    // In a text, these keys move the cursor on some systems.
    const isWriting = event.target === byId("text") && byId("text").value !== "";
    if (active === null || isWriting) return;
    event.preventDefault();
    const all = [...rooms.values()];
    const step = event.key === "ArrowUp" ? -1 : 1;
    activate(all[(all.indexOf(active) + step + all.length) % all.length]);
  }
});

addEventListener("hashchange", () => {
  const name = roomInAddress();
  if (active !== null && name) addRoom(name);
});

// --- begin

if (!comeBack()) {
  backToEntry(stored("localStorage", "name") ?? "", roomInAddress() || LOBBY);
}
