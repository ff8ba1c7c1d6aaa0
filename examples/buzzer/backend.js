// The quiz behind the gateway: plain HTTP, Node's standard library and nothing else.
//
// The gateway sends each event as a POST: who sent it and which route it took are headers (see
// api.yaml), the message is the body. To speak to a client, post to the gateway.

"use strict";

const http = require("node:http");

const PORT = Number(process.env.PORT ?? 3000);
// "https" on AWS.
const SCHEME = process.env.CALLBACK_SCHEME ?? "http";
const keptOpen = new http.Agent({ keepAlive: true });

/** Connection id to name; null until the client has joined. */
const players = new Map();
let winner = null;
/** Where to post to clients; each event tells. */
let callbacks = null;

const routes = {
  $connect(id) {
    players.set(id, null);
  },
  $disconnect(id) {
    players.delete(id);
    return tellAll({ players: names() });
  },
  async join(id, { name }) {
    players.set(id, name);
    await tellAll({ players: names() }, id);
    return { players: names(), winner };
  },
  async buzz(id) {
    if (winner !== null || players.get(id) === null) return;
    winner = players.get(id);
    await tellAll({ winner });
  },
  async reset() {
    winner = null;
    await tellAll({ winner });
  },
  $default() {
    return { error: "there are: join, buzz, reset, time" };
  },
};

function names() {
  return [...players.values()].filter((name) => name !== null);
}

function tellAll(news, but = null) {
  return Promise.all([...players.keys()].filter((id) => id !== but).map((id) => tell(id, news)));
}

/** Post to one client; one that is gone has its $disconnect, so there is nothing to do. */
function tell(id, news) {
  const url = `${callbacks}/@connections/${encodeURIComponent(id)}`;
  return new Promise((resolve) => {
    http
      .request(url, { method: "POST", agent: keptOpen }, (answer) => {
        answer.resume().on("end", resolve);
      })
      .on("error", (error) => {
        console.error(`not told ${id}: ${error.message}`);
        resolve();
      })
      .end(JSON.stringify(news));
  });
}

async function answer(request) {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  const { "connection-id": id, "event-type": type, "route-key": route } = request.headers;
  callbacks = `${SCHEME}://${request.headers["domain-name"]}/${request.headers.stage}`;
  const message = type === "MESSAGE" && route !== "$default" ? JSON.parse(body) : {};
  return routes[route](id, message);
}

const server = http.createServer((request, response) => {
  answer(request).then(
    (result) => response.end(result === undefined ? "" : JSON.stringify(result)),
    (error) => {
      console.error(error);
      response.writeHead(500).end();
    },
  );
});

server.listen(PORT, "127.0.0.1", () => {
  console.log(`the quiz is ready: http://127.0.0.1:${server.address().port}`);
});
