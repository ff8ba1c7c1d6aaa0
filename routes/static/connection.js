// The WebSocket: where it leads, how it is kept, and what is known when it cannot be had.

/** What a person is told. */
export const State = Object.freeze({
  CONNECTING: "connecting",
  ONLINE: "online",
  OFFLINE: "offline",
  REFUSED: "refused",
});

const BACK_OFF_MS = { first: 500, last: 15_000, refused: 30_000 };
const HANDSHAKE_MS = 10_000;
// API Gateway closes a connection after ten minutes without a message.
const QUIET_MS = 4 * 60_000;
const ANSWER_MS = 10_000;
// How long nothing may have come in before somebody who returns to the page wants to be sure.
const DOUBTFUL_MS = 30_000;

/**
 * A connection that comes back by itself.
 *
 * Events: `state` with { state, reason, retryAt }; `open`, at which something has to be sent that
 * is answered, for it counts as online when the first message has come in; and `message` with what
 * was received.
 */
export class Connection extends EventTarget {
  #stage;
  #target = null;
  #socket = null;
  // Counts up with each attempt; what belongs to an earlier one is ignored.
  #turn = 0;
  #failures = 0;
  // How the last attempt ended; null after one that succeeded.
  #outcome = null;
  #timers = {};
  #heardAt = 0;
  #state = null;

  /** @param {string | null} stage - null for the only one, or the first. */
  constructor(stage) {
    super();
    this.#stage = stage;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    });
  }

  get state() {
    return this.#state;
  }

  /** Connect, now. */
  open() {
    this.#drop();
    this.#attempt(this.#turn);
  }

  /** Give up, and say why if there is a reason. */
  close(reason = null) {
    this.#drop();
    this.#failures = 0;
    this.#outcome = null;
    if (reason === null) this.#state = null;
    else this.#show(State.REFUSED, reason);
  }

  /** Send, and return whether there was a connection to send on. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    this.#after("quiet", QUIET_MS, () => this.#ask());
    return true;
  }

  async #attempt(turn) {
    this.#show(State.CONNECTING);
    try {
      this.#target ??= await discover(this.#stage);
    } catch {
      if (turn === this.#turn) this.#failed(State.OFFLINE, "Nothing answers at this address.");
      return;
    }
    if (turn !== this.#turn) return;
    const socket = new WebSocket(this.#target.socket);
    this.#socket = socket;
    this.#after("handshake", HANDSHAKE_MS, () => this.#lost("The answer takes too long."));
    let opened = false;
    socket.addEventListener("open", () => {
      if (turn !== this.#turn) return;
      opened = true;
      clearTimeout(this.#timers.handshake);
      this.#after("answer", ANSWER_MS, () => this.#lost("The answer takes too long."));
      this.dispatchEvent(new Event("open"));
    });
    socket.addEventListener("message", (event) => {
      if (turn !== this.#turn) return;
      this.#heardAt = Date.now();
      // Not when it opens: who lets in and throws out at once shall not be called on at once.
      this.#failures = 0;
      this.#outcome = null;
      clearTimeout(this.#timers.answer);
      this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(event.data) }));
      // Whoever took the message may have closed the connection.
      if (turn === this.#turn && this.#state !== State.ONLINE) this.#show(State.ONLINE);
    });
    socket.addEventListener("close", async () => {
      if (turn !== this.#turn) return;
      clearTimeout(this.#timers.handshake);
      if (opened) {
        this.#lost("The connection was lost.");
        return;
      }
      const { state, reason } = await whyNot(this.#target);
      if (turn !== this.#turn) return;
      // A gateway that came up between the handshake and these questions looks as if it refused.
      const doubtful = state === State.REFUSED && this.#outcome === State.OFFLINE;
      if (doubtful) {
        this.#outcome = state;
        this.open();
      } else {
        this.#failed(state, reason);
      }
    });
  }

  #lost(reason) {
    this.#failed(State.OFFLINE, reason);
  }

  #failed(state, reason) {
    this.#drop();
    this.#outcome = state;
    const longest = Math.min(BACK_OFF_MS.last, BACK_OFF_MS.first * 2 ** this.#failures);
    this.#failures += 1;
    // Who was told no does not ask again soon; and not everybody comes back in the same moment.
    const wait = (state === State.REFUSED ? BACK_OFF_MS.refused : longest) * (0.5 + Math.random() / 2);
    this.#after("retry", wait, () => this.open());
    this.#show(state, reason, Date.now() + wait);
  }

  #drop() {
    this.#turn += 1;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#socket?.close();
    this.#socket = null;
  }

  #wake() {
    if (this.#state === State.OFFLINE) this.open();
    else if (this.#state === State.ONLINE && Date.now() - this.#heardAt > DOUBTFUL_MS) this.#ask();
  }

  /** Ask for something that is answered: a socket may be dead without knowing it. */
  #ask() {
    if (this.send({ action: "rooms" })) {
      this.#after("answer", ANSWER_MS, () => this.#lost("The connection was lost."));
    }
  }

  #after(name, milliseconds, callback) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(callback, milliseconds);
  }

  #show(state, reason = "", retryAt = null) {
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, reason, retryAt } }));
  }
}

/**
 * Find out where to connect: `api.json` lies beside this page and names the stages.
 *
 * The gateway makes it. Where the page is served by somebody else, it is a file such as
 * {"stages": {"prod": "wss://abcde12345.execute-api.us-east-1.amazonaws.com/prod"}}.
 */
async function discover(wanted) {
  const answer = await fetch("api.json", { cache: "no-cache" });
  if (!answer.ok) throw new Error(`api.json: ${answer.status}`);
  const { stages } = await answer.json();
  const stage = wanted ?? Object.keys(stages)[0];
  const url = new URL(stages[stage] ?? `../${encodeURIComponent(stage)}`, answer.url);
  const http = url.href;
  url.protocol = url.protocol.replace("http", "ws");
  return { stage, socket: url.href, http };
}

/**
 * Find out why a handshake failed.
 *
 * A browser does not tell a page which status a handshake was answered with. Plain requests tell
 * something: whether the gateway is there and ready, and whether it has the stage.
 */
async function whyNot(target) {
  try {
    const [health, stage] = await Promise.all([
      fetch("health", { cache: "no-store" }),
      fetch(target.http, { cache: "no-store" }),
    ]);
    if (health.status === 503) {
      return { state: State.OFFLINE, reason: "The gateway is restarting." };
    }
    if (health.ok && stage.status === 403) {
      const reason = `The gateway has no stage called “${target.stage}”.`;
      return { state: State.REFUSED, reason };
    }
    if (health.ok && stage.status === 426) {
      const reason =
        "The gateway is there, but its $connect route did not let this page in. " +
        "Browsers keep the reason from pages; the gateway’s log has it.";
      return { state: State.REFUSED, reason };
    }
  } catch {
    // Nobody answers: this is what offline means.
  }
  return { state: State.OFFLINE, reason: "Nothing answers at this address." };
}
