"""What the handlers share: who is connected, who voted for what, and telling everybody."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import boto3

# By connection id and by name.
names = {}
votes = {}


def count(event):
    """Return how many voted for each choice of the stage."""
    choices = event["stageVariables"]["choices"].split(",")
    return {choice: list(votes.values()).count(choice) for choice in choices}


def tell_everybody(event, message):
    """Post a message to every connection; those that are gone are forgotten."""
    context = event["requestContext"]
    url = os.environ.get(
        "WSGATEWAY_CALLBACK_URL", f"https://{context['domainName']}/{context['stage']}"
    )
    data = json.dumps(message).encode()

    def post(connection_id):
        client = _client(url)
        try:
            client.post_to_connection(ConnectionId=connection_id, Data=data)
        except client.exceptions.GoneException:
            names.pop(connection_id, None)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(post, list(names)))


@cache
def _client(url):
    return boto3.client("apigatewaymanagementapi", endpoint_url=url)
