// One call of the AWS SDK for JavaScript v3: node manage.cjs ENDPOINT post|get|delete ID [DATA]
// Prints what came of it as a line of JSON.
"use strict";

const {
  ApiGatewayManagementApiClient,
  DeleteConnectionCommand,
  GetConnectionCommand,
  PostToConnectionCommand,
} = require("@aws-sdk/client-apigatewaymanagementapi");

const [endpoint, action, ConnectionId, Data] = process.argv.slice(2);
const commands = {
  post: () => new PostToConnectionCommand({ ConnectionId, Data }),
  get: () => new GetConnectionCommand({ ConnectionId }),
  delete: () => new DeleteConnectionCommand({ ConnectionId }),
};
const client = new ApiGatewayManagementApiClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
  maxAttempts: 1,
});

client.send(commands[action]()).then(
  ({ $metadata, ...result }) => {
    console.log(JSON.stringify({ status: $metadata.httpStatusCode, ...result }));
  },
  (error) => {
    console.log(JSON.stringify({ status: error.$metadata?.httpStatusCode, error: error.name }));
  },
);
