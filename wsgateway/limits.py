"""The bounds, with their sources. What is a setting too takes its default from here.

"AWS" is the quota page
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""

from __future__ import annotations

KIB = 1024

# AWS: "WebSocket message payload size 128 KB", and 131072 is the model's bound for `Data`.
MESSAGE_SIZE_MAX = 128 * KIB
# AWS: "WebSocket frame size 32 KB"; also how replies and posts are cut.
FRAME_SIZE_MAX = 32 * KIB
# RFC 6455, 5.5: a control frame's payload is at most 125 bytes, whatever bound data frames have.
CONTROL_FRAME_SIZE_MAX = 125
# AWS: "Idle connection timeout 10 minutes".
IDLE_TIMEOUT_S = 600.0
# AWS: "Connection duration for WebSocket API 2 hours".
CONNECTION_DURATION_MAX_S = 7200.0
# AWS: integration timeout 50 ms to 29 s.
INTEGRATION_TIMEOUT_MIN_MS = 50
INTEGRATION_TIMEOUT_MAX_MS = 29_000
# AWS: "URL length 4096 characters". Counted over the request target.
URL_SIZE_MAX = 4096

# API Gateway allows 10,240 bytes for request line and header values; this leaves room for the
# large cookies that browsers send along, and is what common servers allow.
HEAD_SIZE_MAX = 32 * KIB
HEADER_COUNT_MAX = 100
# A sender of more than a message still gets to read its 413 if it stops within this many bytes
# (the payload quota of API Gateway's REST APIs); beyond it the connection is dropped.
BODY_DISCARD_MAX = 10 * KIB * KIB
# Requests that one HTTP connection may have waiting behind the one being answered.
PIPELINE_MAX = 16

HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
# Longer than the 60 s that load balancers and SDK pools keep a connection by default, so that
# the other side closes first and no request meets a closing socket.
KEEP_ALIVE_TIMEOUT_S = 75.0
# How long the other side may take to finish a closing handshake before the socket is dropped.
CLOSE_TIMEOUT_S = 5.0

# Messages of one connection being worked on at once. AWS names no number.
IN_FLIGHT_MAX = 64
# Messages that wait behind those; beyond it the socket is not read.
WAITING_SIZE_MAX = 128 * KIB
# What a waiting message counts on top of its text, so that empty ones are bounded too.
WAITING_OVERHEAD = 64
# Unsent bytes of one connection; a post beyond it is answered 429.
SEND_BUFFER_MAX = 1024 * KIB

# What a backend may answer: eight times what a reply may have, enough for an answer that a template
# picks something from. A thousand of them at once still fit into a gigabyte.
RESPONSE_SIZE_MAX = 1024 * KIB
# How long an idle connection to a backend is used again. Node.js and uvicorn close theirs after 5 s,
# and whoever closes first loses no request.
BACKEND_KEEP_ALIVE_S = 4.0

# Lambda's default account concurrency: beyond it an invocation is refused, as Lambda throttles.
FUNCTION_CONCURRENCY_MAX = 1000
HANDLER_THREADS = 64

DISCONNECT_CONCURRENCY_MAX = 100
DRAIN_CLOSE_RATE = 1000.0
DRAIN_CLOSE_JITTER = 0.2
GRACE_PERIOD_S = 30.0

# Descriptors kept free for handlers, log files and connections to backends.
DESCRIPTOR_RESERVE = 64
# What the kernel may hold ready for us to accept.
BACKLOG = 2048
