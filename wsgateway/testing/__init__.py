"""A gateway inside the tests of an application that is made for one.

```python
async with wsgateway.testing.serve("handlers") as gateway:
    async with gateway.connect() as client:
        await client.send({"action": "join", "room": "lobby"})
        assert await client.receive_json() == {"type": "joined", "room": "lobby"}
```
"""

from wsgateway.testing.calls import Call, Events
from wsgateway.testing.client import Client, Closed
from wsgateway.testing.errors import CallbackRefused, ConnectionEnded, ConnectRefused, TimedOut
from wsgateway.testing.running import RunningGateway, Serve, serve

__all__ = [
    "Call",
    "CallbackRefused",
    "Client",
    "Closed",
    "ConnectRefused",
    "ConnectionEnded",
    "Events",
    "RunningGateway",
    "Serve",
    "TimedOut",
    "serve",
]
