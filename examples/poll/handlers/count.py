"""count: {"action": "count"}; the answer is sent to the client."""

import json

from _poll import count


async def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"type": "count", "count": count(event)})}
