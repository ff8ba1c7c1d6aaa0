"""Real connections to a gateway that runs `handlers/`, one gateway for each test."""

import pytest

from wsgateway.testing import CallbackRefused, ConnectRefused


def ada(gateway):
    return gateway.connect(query={"name": "Ada"})


def bob(gateway):
    return gateway.connect(query={"name": "Bob"})


async def test_nobody_comes_in_without_a_name(gateway):
    with pytest.raises(ConnectRefused) as refused:
        await gateway.connect()

    assert refused.value.status == 401


async def test_everybody_sees_every_vote(gateway):
    async with ada(gateway) as a, bob(gateway) as b:
        await a.send({"action": "vote", "choice": "tabs"})
        for client in (a, b):
            assert await client.receive_json() == {
                "type": "count",
                "count": {"tabs": 1, "spaces": 0},
            }

        await b.send({"action": "vote", "choice": "spaces"})
        for client in (a, b):
            assert await client.receive_json() == {
                "type": "count",
                "count": {"tabs": 1, "spaces": 1},
            }


async def test_who_votes_again_changes_the_vote(gateway):
    async with ada(gateway) as client:
        for choice in ("tabs", "spaces"):
            await client.send({"action": "vote", "choice": choice})
            message = await client.receive_json()

    assert message["count"] == {"tabs": 0, "spaces": 1}


async def test_each_test_begins_without_votes(gateway):
    async with ada(gateway) as client:
        await client.send({"action": "count"})

        assert await client.receive_json() == {"type": "count", "count": {"tabs": 0, "spaces": 0}}


async def test_who_does_not_know_what_to_say_is_told(gateway):
    async with ada(gateway) as client:
        await client.send("hello?")

        assert await client.receive_json() == {
            "type": "error",
            "text": "actions are vote and count",
        }


@pytest.mark.wsgateway(stage_variables={"choices": "vi,emacs,nano"})
async def test_the_stage_says_what_the_choices_are(gateway):
    async with ada(gateway) as client:
        await client.send({"action": "vote", "choice": "nano"})

        assert (await client.receive_json())["count"] == {"vi": 0, "emacs": 0, "nano": 1}


async def test_the_others_are_told_who_left(gateway):
    async with bob(gateway) as b:
        async with ada(gateway) as a:
            pass

        assert await b.receive_json() == {"type": "left", "name": "Ada"}
        left = await gateway.events.finished("$disconnect", connection=a)
        assert left.event["requestContext"]["disconnectStatusCode"] == 1000


async def test_who_loses_the_network_leaves_too(gateway):
    async with bob(gateway) as b, ada(gateway) as a:
        a.vanish()

        assert await b.receive_json() == {"type": "left", "name": "Ada"}


async def test_who_says_nothing_for_ten_minutes_has_left(gateway):
    async with ada(gateway) as a:
        gateway.advance(10 * 60)

        assert await a.wait_closed() == (1001, "Going away")
        await gateway.events.finished("$disconnect")
        assert gateway.module("_poll").names == {}


async def test_a_vote_nobody_can_cast_is_an_error_for_the_voter(gateway):
    async with ada(gateway) as client:
        await client.send({"action": "vote"})

        assert (await client.receive_json())["message"] == "Internal server error"
        call = await gateway.events.finished("vote")
        assert isinstance(call.error, KeyError)


async def test_a_backend_can_announce_something(gateway):
    async with ada(gateway) as client:
        await gateway.post(client, {"type": "announcement", "text": "one minute left"})

        assert (await client.receive_json())["text"] == "one minute left"

    await gateway.events.finished("$disconnect")
    with pytest.raises(CallbackRefused, match="410 GoneException"):
        await gateway.post(client, "too late")


async def test_polls_do_not_mix(wsgateway_serve):
    one, other = [await wsgateway_serve() for _ in range(2)]
    async with ada(one) as a, bob(other) as b:
        await a.send({"action": "vote", "choice": "tabs"})
        await b.send({"action": "vote", "choice": "spaces"})

        assert (await a.receive_json())["count"] == {"tabs": 1, "spaces": 0}
        assert (await b.receive_json())["count"] == {"tabs": 0, "spaces": 1}
