// The least that echoes with ws: node server.js PORT
"use strict";

const http = require("node:http");
const { WebSocketServer } = require("ws");

const server = http.createServer((_, response) => response.end());
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket) => {
  socket.on("message", (message, binary) => socket.send(message, { binary }));
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 2048 });
