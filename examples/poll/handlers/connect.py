"""$connect: whoever says a name may come in."""

from _poll import names


def handler(event, context):
    name = (event.get("queryStringParameters") or {}).get("name")
    if not name:
        return {"statusCode": 401}
    names[event["requestContext"]["connectionId"]] = name
    return {"statusCode": 200}
