// The functions of bench/app, in the language that serverless-offline runs by itself.
"use strict";

exports.accept = async () => ({ statusCode: 200 });
exports.echo = async (event) => ({ statusCode: 200, body: event.body });
