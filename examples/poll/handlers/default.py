"""$default: say what there is."""

import json

USAGE = {"type": "error", "text": "actions are vote and count"}


def handler(event, context):
    return {"statusCode": 400, "body": json.dumps(USAGE)}
