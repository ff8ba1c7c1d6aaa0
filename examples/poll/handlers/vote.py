"""vote: {"action": "vote", "choice": "tabs"}; who votes again changes the vote."""

import json

from _poll import count, names, tell_everybody, votes


def handler(event, context):
    choice = json.loads(event["body"])["choice"]
    if choice in count(event):
        votes[names[event["requestContext"]["connectionId"]]] = choice
    tell_everybody(event, {"type": "count", "count": count(event)})
    return {"statusCode": 200}
