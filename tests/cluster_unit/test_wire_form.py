"""What nodes write to each other."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from wsgateway.cluster import wire_form
from wsgateway.cluster.wire_form import (
    Command,
    Kind,
    Outcome,
    Ping,
    Reply,
    UnknownVersion,
    Unreadable,
    decode,
    encode_command,
    encode_ping,
    encode_reply,
)
from wsgateway.connection import ConnectionKey
from wsgateway.contracts import ConnectionInfo
from wsgateway.limits import MESSAGE_SIZE_MAX

KEY = ConnectionKey("abcde12345", "dev", "AQIDEBESExQCFRY=")
COMMAND = Command(Kind.POST, 7, b"\x01\x02\x03", "life", KEY, b"hi")
INFO = ConnectionInfo(1708326702789, 1708326705758, "192.0.2.10", "client/1.0")

numbers = st.integers(0, 2**64 - 1)
instants = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=60)
lives = st.text(max_size=16)
keys = st.builds(ConnectionKey, texts, texts, texts)
payloads = st.text(max_size=300).map(str.encode)
commands = st.one_of(
    st.builds(
        Command,
        st.just(Kind.POST),
        numbers,
        st.binary(min_size=3, max_size=3),
        lives,
        keys,
        payloads,
    ),
    st.builds(
        Command,
        st.sampled_from([Kind.GET, Kind.DELETE]),
        numbers,
        st.binary(min_size=3, max_size=3),
        lives,
        keys,
        payload=st.just(b""),
    ),
)
infos = st.builds(ConnectionInfo, instants, instants, texts, st.none() | st.text(max_size=300))
replies = st.one_of(
    st.builds(
        Reply, numbers, lives, st.sampled_from(sorted(set(Outcome) - {Outcome.INFO})), st.none()
    ),
    st.builds(Reply, numbers, lives, st.just(Outcome.INFO), infos),
)
pings = st.builds(Ping, numbers, lives)


def encode(message: Command | Reply | Ping) -> bytes:
    match message:
        case Command():
            return encode_command(message)
        case Reply():
            return encode_reply(message)
        case Ping():
            return encode_ping(message)


class TestForm:
    """Written out, because nodes of one version must agree for ever."""

    def test_a_post(self) -> None:
        assert encode_command(COMMAND) == (
            b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x07\x01\x02\x03\x04\x0a\x03\x10"
            b"lifeabcde12345devAQIDEBESExQCFRY=hi"
        )

    def test_a_reply(self) -> None:
        reply = Reply(7, "life", Outcome.GONE)
        assert encode_reply(reply) == b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x07\x03\x04life"

    def test_a_reply_to_a_get(self) -> None:
        assert encode_reply(Reply(7, "life", Outcome.INFO, INFO)) == (
            b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x07\x02\x04life"
            b"\x00\x00\x01\x8d\xc0\x34\xce\xc5\x00\x00\x01\x8d\xc0\x34\xda\x5e\x0a\x01"
            b"192.0.2.10client/1.0"
        )

    def test_a_ping(self) -> None:
        assert encode_ping(Ping(7, "life")) == b"\x01\x11\x00\x00\x00\x00\x00\x00\x00\x07life"


class TestRoundTrip:
    @given(commands | replies | pings)
    def test_what_is_written_is_read(self, message: Command | Reply | Ping) -> None:
        assert decode(encode(message)) == message

    def test_a_message_of_the_full_size(self) -> None:
        command = COMMAND._replace(payload=b"x" * MESSAGE_SIZE_MAX)

        assert decode(encode_command(command)) == command

    def test_no_user_agent_is_not_an_empty_one(self) -> None:
        for user_agent in (None, ""):
            reply = Reply(1, "life", Outcome.INFO, INFO._replace(user_agent=user_agent))
            assert decode(encode_reply(reply)) == reply


class TestBounds:
    @pytest.mark.parametrize(
        "command",
        [
            COMMAND._replace(payload=b"x" * (MESSAGE_SIZE_MAX + 1)),
            COMMAND._replace(incarnation="x" * (wire_form.INCARNATION_SIZE_MAX + 1)),
            COMMAND._replace(key=KEY._replace(stage="x" * 256)),
            COMMAND._replace(reply_tag=b"four"),
        ],
        ids=["payload", "incarnation", "stage", "tag"],
    )
    def test_a_command_that_does_not_fit_is_not_written(self, command: Command) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            encode_command(command)

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(1, "x" * (wire_form.INCARNATION_SIZE_MAX + 1), Outcome.GONE),
            Reply(1, "life", Outcome.INFO, INFO._replace(source_ip="x" * 256)),
            Reply(1, "life", Outcome.INFO, INFO._replace(user_agent="x" * (MESSAGE_SIZE_MAX + 1))),
        ],
        ids=["incarnation", "source ip", "user agent"],
    )
    def test_a_reply_that_does_not_fit_is_not_written(self, reply: Reply) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            encode_reply(reply)

    def test_more_than_any_message_is_refused_unread(self) -> None:
        with pytest.raises(Unreadable):
            decode(encode_command(COMMAND) + b"x" * wire_form.SIZE_MAX)


class TestRefused:
    def test_another_version(self) -> None:
        data = bytearray(encode_command(COMMAND))
        data[0] = 2

        with pytest.raises(UnknownVersion, match="version 2"):
            decode(bytes(data))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x01",
            encode_command(COMMAND)[:20],
            b"\x01\x63" + encode_command(COMMAND)[2:],
            encode_command(COMMAND) + b"\xff",
            encode_command(COMMAND._replace(kind=Kind.GET, payload=b"")) + b"x",
            encode_command(COMMAND._replace(payload=b""))[:16] + b"\xff",
            encode_reply(Reply(1, "life", Outcome.GONE)) + b"x",
            encode_reply(Reply(1, "life", Outcome.GONE))[:11],
            b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x07\x63\x00",
            b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x07\x02\x00",
            b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x07\x02\x00short",
            encode_reply(Reply(1, "", Outcome.INFO, INFO._replace(user_agent=None))) + b"x",
            encode_ping(Ping(1, "x" * wire_form.INCARNATION_SIZE_MAX)) + b"x",
            encode_ping(Ping(1, "")) + b"\xff",
        ],
    )
    def test_what_no_node_writes(self, data: bytes) -> None:
        with pytest.raises(Unreadable):
            decode(data)

    def test_a_post_that_is_not_text(self) -> None:
        with pytest.raises(Unreadable):
            decode(encode_command(COMMAND._replace(payload=b"\xff\xfe")))

    @given(st.binary(max_size=200))
    @example(b"\x80\x04\x95")
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        read_or_refused(data)
        read_or_refused(b"\x01" + data)

    @given(commands | replies | pings, st.data())
    def test_a_changed_message_is_read_or_refused(
        self, message: Command | Reply | Ping, data: st.DataObject
    ) -> None:
        changed = bytearray(encode(message))
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        end = data.draw(st.integers(0, len(changed)))
        read_or_refused(bytes(changed))
        read_or_refused(bytes(changed[:end]))


def read_or_refused(data: bytes) -> None:
    """What is read is written in one way only, so nothing of it is ignored."""
    try:
        message = decode(data)
    except Unreadable:
        return
    assert encode(message) == data
