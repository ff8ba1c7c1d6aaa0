"""$disconnect: forget the connection; a vote stays."""

from _poll import names, tell_everybody


def handler(event, context):
    name = names.pop(event["requestContext"]["connectionId"], None)
    if name is not None:
        tell_everybody(event, {"type": "left", "name": name})
    return {"statusCode": 200}
