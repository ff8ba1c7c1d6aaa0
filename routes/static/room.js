// One room as this page knows it: who is there, what was said, what was not read yet.

const ENTRIES_MAX = 500;
// How long after a loss of the connection others who lost it too are expected back.
const RETURN_MS = 30_000;

/**
 * An entry of a room is
 *
 * - a message: { kind: "message", id, at, author, name, text, ref }, with `status` "sending" or
 *   "failed" until it has come back, or
 * - a notice: { kind: "notice", at, text }.
 */
export class Room {
  // The ids of the messages among the entries.
  #known = new Set();
  #expected = new Map();
  #expectedUntil = 0;
  // Who came and went between the moment that the welcome describes and its arrival.
  #early = [];

  /** @param {string} wantedName - What to be called there. */
  constructor(name, wantedName) {
    this.name = name;
    this.wantedName = wantedName;
    this.me = null;
    this.here = false;
    this.problem = "";
    this.people = new Map();
    this.entries = [];
    this.unread = 0;
    this.firstUnread = null;
    this.draft = "";
  }

  /** Take in what the chat says to a newcomer. Returns the messages that are new to a page that
   * was here before. */
  welcome({ name, author, people, messages }) {
    const returning = this.me !== null;
    const renamed = name !== this.wantedName;
    this.here = true;
    this.problem = "";
    this.me = { name, author };
    this.wantedName = name;
    this.people = new Map(people.map((person) => [person.author, person.name]));
    for (const [come, person] of this.#early) {
      if (come) this.people.set(person.author, person.name);
      else if (this.people.get(person.author) === person.name) this.people.delete(person.author);
    }
    this.#early = [];
    const added = messages.map((message) => this.add(message)).filter((entry) => entry !== null);
    if (renamed) {
      this.notice(Date.now(), `Somebody here has that name already, so you are ${name}.`);
    }
    for (const entry of this.entries) {
      if (entry.status === "sending") entry.status = "failed";
    }
    return returning ? added.filter((entry) => entry.author !== author) : [];
  }

  /** The connection is gone. */
  lost() {
    if (this.here) this.#expected = new Map(this.people);
    this.#expectedUntil = Date.now() + RETURN_MS;
    this.#early = [];
    this.here = false;
  }

  /** Somebody came. Returns the notice to show, if any. */
  joined({ author, name, at }) {
    if (!this.here) {
      this.#early.push([true, { author, name }]);
      return null;
    }
    const expected = Date.now() < this.#expectedUntil && this.#expected.get(author) === name;
    this.#expected.delete(author);
    this.people.set(author, name);
    return expected ? null : this.notice(at, `${name} joined`);
  }

  /** Somebody left. Returns the notice to show, if any. */
  left({ author, name, at }) {
    if (!this.here) {
      this.#early.push([false, { author, name }]);
      return null;
    }
    // The name is looked at too: somebody may have come back under another one.
    if (this.people.get(author) !== name) return null;
    this.people.delete(author);
    return this.notice(at, `${name} left`);
  }

  notice(at, text) {
    return this.#insert({ kind: "notice", at, text });
  }

  /** Show a message of one's own before it has been delivered. */
  sending(ref, text) {
    const { name, author } = this.me;
    return this.#insert({
      kind: "message", id: null, at: Date.now(), name, author, text, ref, status: "sending",
    });
  }

  /** Put a message into its place. Returns null if it was there before. */
  add({ id, at, author, name, text, ref }) {
    if (this.#known.has(id)) return null;
    this.#known.add(id);
    const own = ref && this.entries.findIndex((entry) => entry.status && entry.ref === ref);
    if (own >= 0) this.entries.splice(own, 1);
    return this.#insert({ kind: "message", id, at, author, name, text, ref });
  }

  failed(ref) {
    const entry = this.entries.find((entry) => entry.status === "sending" && entry.ref === ref);
    if (entry) entry.status = "failed";
    return entry;
  }

  discard(ref) {
    this.entries = this.entries.filter((entry) => !(entry.status && entry.ref === ref));
  }

  isOwn(entry) {
    return entry.author === this.me?.author;
  }

  markUnread(entry) {
    if (this.unread === 0) this.firstUnread = entry.id;
    this.unread += 1;
  }

  markRead() {
    this.unread = 0;
  }

  /** Entries stand in the order of the gateway's clock; a message is handled when its turn comes. */
  #insert(entry) {
    let place = this.entries.length;
    // One's own, on their way, stay at the end.
    while (place > 0 && this.#isBefore(entry, this.entries[place - 1])) place -= 1;
    this.entries.splice(place, 0, entry);
    if (this.entries.length > ENTRIES_MAX) {
      for (const old of this.entries.splice(0, this.entries.length - ENTRIES_MAX)) {
        this.#known.delete(old.id);
      }
    }
    return entry;
  }

  #isBefore(entry, other) {
    if (entry.kind === "notice") return false;
    return Boolean(other.status) && !entry.status ? true : !other.status && entry.at < other.at;
  }
}
