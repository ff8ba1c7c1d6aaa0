from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, strategies as st
from websockets.protocol import SEND_EOF, State

from tests.listener.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_frame,
    frame,
)
from wsgateway.limits import FRAME_SIZE_MAX, MESSAGE_SIZE_MAX
from wsgateway.listener.wire import Wire

NOTHING: tuple[list[Frame], bool] = ([], False)


@pytest.fixture
def wire() -> Wire:
    return new_wire()


def new_wire() -> Wire:
    return Wire(message_size_max=MESSAGE_SIZE_MAX, frame_size_max=FRAME_SIZE_MAX)


def sent(wire: Wire) -> tuple[list[Frame], bool]:
    """Return the frames that are to be sent, and whether the stream ends behind them."""
    writes = wire.data_to_send()
    ended = writes[-1:] == [SEND_EOF]
    frames = []
    for data in writes[:-1] if ended else writes:
        assert data[1] < 126
        assert len(data) == 2 + data[1]
        frames.append(Frame(data[0] & 0x0F, data[2:], bool(data[0] & 0x80)))
    return frames, ended


def closed_with(code: int) -> tuple[list[Frame], bool]:
    """Return what fails a connection: a close frame without a reason, and the end."""
    return [Frame(CLOSE, struct.pack("!H", code))], True


def fragments(payload: bytes, size: int) -> bytes:
    """Return a text message in fragments."""
    ends = range(size, len(payload) + size, size)
    return b"".join(
        frame(
            payload[end - size : end],
            TEXT if end == size else CONTINUATION,
            fin=end >= len(payload),
        )
        for end in ends
    )


# --- messages


def test_a_text_frame_is_a_message(wire: Wire) -> None:
    wire.receive_data(frame('{"é": "€"}'.encode()))

    assert wire.messages == ['{"é": "€"}']
    assert sent(wire) == NOTHING


def test_an_empty_frame_is_an_empty_message(wire: Wire) -> None:
    wire.receive_data(frame(b""))

    assert wire.messages == [""]


def test_several_frames_in_one_read_are_messages_in_order(wire: Wire) -> None:
    wire.receive_data(frame(b"1") + frame(b"2") + frame(b"3"))

    assert wire.messages == ["1", "2", "3"]


def test_fragments_are_put_together(wire: Wire) -> None:
    wire.receive_data(fragments(b"abcdefg", 3))

    assert wire.messages == ["abcdefg"]


def test_a_character_may_be_cut_by_fragments(wire: Wire) -> None:
    wire.receive_data(fragments("€uro".encode(), 1))

    assert wire.messages == ["€uro"]


def test_a_message_may_end_with_an_empty_fragment(wire: Wire) -> None:
    wire.receive_data(frame(b"a", fin=False) + frame(b"", CONTINUATION))
    wire.receive_data(frame(b"", fin=False) + frame(b"b", CONTINUATION))
    wire.receive_data(frame(b"", fin=False) + frame(b"", CONTINUATION))

    assert wire.messages == ["a", "b", ""]


def test_the_largest_frame_is_a_message(wire: Wire) -> None:
    wire.receive_data(frame(b"a" * 32768))

    assert wire.messages == ["a" * 32768]


def test_a_frame_over_32_kib_is_1009_by_its_head_alone(wire: Wire) -> None:
    wire.receive_data(frame(b"a" * 32769)[:4])

    assert wire.messages == []
    assert sent(wire) == closed_with(1009)
    assert wire.outcome() == (1009, "")


def test_a_frame_of_exabytes_is_1009(wire: Wire) -> None:
    wire.receive_data(b"\x81\xff" + b"\x7f" + b"\xff" * 7)

    assert sent(wire) == closed_with(1009)


def test_the_largest_message_arrives_in_fragments(wire: Wire) -> None:
    wire.receive_data(fragments(b"a" * 131072, 32768))

    assert wire.messages == ["a" * 131072]
    assert sent(wire) == NOTHING


def test_a_message_over_128_kib_is_1009(wire: Wire) -> None:
    wire.receive_data(fragments(b"a" * 131073, 32768))

    assert wire.messages == []
    assert sent(wire) == closed_with(1009)
    assert wire.outcome() == (1009, "")


def test_messages_do_not_add_up(wire: Wire) -> None:
    for _ in range(3):
        wire.receive_data(fragments(b"a" * 131072, 32768))

    assert len(wire.messages) == 3
    assert sent(wire) == NOTHING


def test_a_ping_inside_the_largest_message_is_answered(wire: Wire) -> None:
    parts = [b"a" * 32768] * 4
    wire.receive_data(frame(parts[0], fin=False))
    wire.receive_data(frame(parts[1], CONTINUATION, fin=False))
    wire.receive_data(frame(parts[2], CONTINUATION, fin=False))
    wire.receive_data(frame(parts[3], CONTINUATION, fin=False))
    wire.receive_data(frame(b"p" * 125, PING))
    wire.receive_data(frame(b"", CONTINUATION))

    assert wire.messages == ["a" * 131072]
    assert sent(wire) == ([Frame(PONG, b"p" * 125)], False)


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_many_small_fragments_take_no_more_memory_than_their_bytes(
    wire: Wire, payload: bytes
) -> None:
    """A list of them would take eight bytes each at the least.

    The bound leaves 40 KB to what else the process does meanwhile: coverage notes new lines,
    threads of other tests end.
    """
    fragments_sent = 20_000
    wire.receive_data(frame(payload, fin=False))
    tracemalloc.start()
    try:
        wire.receive_data(frame(payload, CONTINUATION, fin=False) * fragments_sent)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 2 * len(payload) * fragments_sent + 40_000


# --- control frames


def test_a_ping_is_answered_with_its_payload(wire: Wire) -> None:
    wire.receive_data(frame(b"", PING) + frame(b"\xff\x00", PING))

    assert sent(wire) == ([Frame(PONG, b""), Frame(PONG, b"\xff\x00")], False)


def test_an_unasked_pong_is_nothing(wire: Wire) -> None:
    wire.receive_data(frame(b"x", PONG))

    assert sent(wire) == NOTHING
    assert wire.messages == []
    assert wire.events == []


# --- what fails a connection


def test_binary_is_1003(wire: Wire) -> None:
    wire.receive_data(frame(b"\x00", BINARY))

    assert wire.messages == []
    assert sent(wire) == closed_with(1003)
    assert wire.outcome() == (1003, "")


def test_the_first_fragment_of_binary_is_1003(wire: Wire) -> None:
    wire.receive_data(frame(b"\x00", BINARY, fin=False))

    assert sent(wire) == closed_with(1003)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xff"),
        frame(b"\xc3"),
        frame(b"\xed\xa0\x80"),
        frame(b"\xc3", fin=False) + frame(b"", CONTINUATION),
        frame(b"a\xe2\x82", fin=False) + frame(b"b", CONTINUATION),
        close_frame(1000)[:1] + b"\x83\0\0\0\0\x03\xe8\xff",
    ],
    ids=["byte", "cut", "surrogate", "cut over fragments", "broken over fragments", "reason"],
)
def test_bad_utf_8_is_1007(wire: Wire, data: bytes) -> None:
    wire.receive_data(data)

    assert wire.messages == []
    assert sent(wire) == closed_with(1007)
    assert wire.outcome() == (1007, "")


@pytest.mark.parametrize(
    "data",
    [
        frame(b"a", masked=False),
        frame(b"a", 3),
        frame(b"a", 11),
        b"\xc1\x80\0\0\0\0",
        b"\xa1\x80\0\0\0\0",
        b"\x91\x80\0\0\0\0",
        frame(b"a", CONTINUATION),
        frame(b"a", CONTINUATION, fin=False),
        frame(b"a", fin=False) + frame(b"b"),
        frame(b"a", fin=False) + frame(b"b", BINARY),
        frame(b"", PING, fin=False),
        frame(b"p" * 126, PING),
        frame(b"c" * 126, CLOSE),
        frame(b"\x03", CLOSE),
    ],
    ids=[
        "unmasked",
        "reserved opcode",
        "reserved control opcode",
        "RSV1",
        "RSV2",
        "RSV3",
        "continuation of nothing",
        "first fragment as continuation",
        "text inside a message",
        "binary inside a message",
        "fragmented ping",
        "long ping",
        "long close",
        "half a close code",
    ],
)
def test_a_breach_of_the_protocol_is_1002(wire: Wire, data: bytes) -> None:
    wire.receive_data(data)

    assert wire.messages == []
    assert sent(wire) == closed_with(1002)
    assert wire.outcome() == (1002, "")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_code_that_no_frame_may_have_is_1002(wire: Wire, code: int) -> None:
    wire.receive_data(close_frame(code))

    assert sent(wire) == closed_with(1002)
    assert wire.outcome() == (1002, "")


def test_what_came_before_a_breach_is_processed_and_nothing_after_it(wire: Wire) -> None:
    wire.receive_data(frame(b"before") + frame(b"\x00", BINARY) + frame(b"after"))
    wire.receive_data(frame(b"later") + frame(b"", PING))

    assert wire.messages == ["before"]
    assert sent(wire) == closed_with(1003)


@pytest.mark.parametrize(
    "breach", [frame(b"", BINARY), frame(b"\xff"), frame(b"", 5), close_frame(1005)]
)
def test_after_a_breach_the_close_frame_and_the_end_are_the_last_writes(
    wire: Wire, breach: bytes
) -> None:
    wire.receive_data(frame(b"ping", PING) + breach + frame(b"ping", PING))

    assert wire.failed()
    pong, close, end = wire.writes
    assert pong[:1] == bytes([0x80 | PONG])
    assert close[:1] == bytes([0x80 | CLOSE])
    assert end == SEND_EOF


def test_a_connection_that_has_not_failed(wire: Wire) -> None:
    """An open one, one that we close, and one that the client closes."""
    wire.receive_data(frame(b"hello") + frame(b"", PING))
    assert not wire.failed()
    wire.send_close(1001)
    assert not wire.failed()
    wire.receive_data(close_frame(1001))
    assert not wire.failed()


# --- closing


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_a_close_is_echoed_and_ends_the_stream(wire: Wire, code: int) -> None:
    wire.receive_data(close_frame(code, "bye") + frame(b"after"))

    assert sent(wire) == ([Frame(CLOSE, struct.pack("!H", code) + b"bye")], True)
    assert wire.messages == []
    assert wire.outcome() == (code, "bye")


def test_a_close_without_code_is_echoed_without_code(wire: Wire) -> None:
    wire.receive_data(close_frame())

    assert sent(wire) == ([Frame(CLOSE, b"")], True)


def test_a_close_inside_a_fragmented_message_is_a_close(wire: Wire) -> None:
    """RFC 6455, 5.4: control frames may come in the middle of a fragmented message."""
    wire.receive_data(frame(b"half", fin=False) + close_frame(4001, "bye"))

    assert sent(wire) == ([Frame(CLOSE, struct.pack("!H", 4001) + b"bye")], True)
    assert wire.messages == []
    assert wire.outcome() == (4001, "bye")


@pytest.mark.parametrize(
    "data",
    [
        frame(b"late"),
        frame(b"\xff"),
        frame(b"\x00", BINARY),
        frame(b"", PING),
        frame(b"", PONG),
        frame(b"first", fin=False) + frame(b"second"),
        frame(b"", CONTINUATION),
    ],
    ids=["text", "bad text", "binary", "ping", "pong", "fragments out of order", "continuation"],
)
def test_nothing_is_processed_or_answered_after_our_close_but_the_close(
    wire: Wire, data: bytes
) -> None:
    """RFC 6455, 1.4."""
    wire.send_close(1001, "Going away")
    assert sent(wire) == ([Frame(CLOSE, b"\x03\xe9Going away")], False)

    wire.receive_data(data)
    assert wire.messages == []
    assert sent(wire) == NOTHING

    wire.receive_data(close_frame(1001))
    assert sent(wire) == ([], True)
    assert wire.outcome() == (1001, "Going away")


def test_the_rest_of_a_message_that_our_close_interrupts_is_ignored(wire: Wire) -> None:
    wire.receive_data(frame(b"half", fin=False))
    wire.send_close(1001, "Going away")
    sent(wire)

    wire.receive_data(frame(b"rest", CONTINUATION) + close_frame(1001))

    assert wire.messages == []
    assert sent(wire) == ([], True)


def test_a_breach_after_our_close_ends_the_stream_without_another_close(wire: Wire) -> None:
    wire.send_close(1001, "Going away")
    sent(wire)

    wire.receive_data(frame(b"a" * 40_000) + frame(b"unmasked", masked=False))

    assert sent(wire) == ([], True)
    assert wire.outcome() == (1001, "Going away")


# --- disconnectStatusCode and disconnectReason


def test_client_closes_without_code() -> None:
    wire = new_wire()
    wire.receive_data(close_frame())
    wire.receive_eof()
    assert wire.outcome() == (1005, "Client-side close frame status not set")


def test_browser_tab_is_closed() -> None:
    wire = new_wire()
    wire.receive_data(close_frame(1001))
    wire.receive_eof()
    assert wire.outcome() == (1001, "")


def test_client_closes_with_own_code_and_reason() -> None:
    wire = new_wire()
    wire.receive_data(close_frame(4999, "ça va"))
    wire.receive_eof()
    assert wire.outcome() == (4999, "ça va")


def test_connection_is_deleted() -> None:
    wire = new_wire()
    wire.send_close(1000, "Connection Closed Normally")
    wire.receive_data(close_frame(1000))
    wire.receive_eof()
    assert wire.outcome() == (1000, "Connection Closed Normally")


def test_client_answers_our_close_with_another_code() -> None:
    wire = new_wire()
    wire.send_close(1001, "Going away")
    wire.receive_data(close_frame(4000, "mine"))
    assert wire.outcome() == (1001, "Going away")


def test_client_does_not_answer_our_close() -> None:
    wire = new_wire()
    wire.send_close(1001, "Going away")
    wire.receive_eof()
    assert wire.outcome() == (1001, "Going away")


@pytest.mark.parametrize("data", [b"", frame(b"m"), frame(b"m")[:3], frame(b"m", fin=False)])
def test_tcp_is_lost(data: bytes) -> None:
    wire = new_wire()
    wire.receive_data(data)
    wire.receive_eof()
    assert wire.outcome() == (1006, "")
    assert wire.state is State.CLOSED


def test_tcp_is_lost_without_an_end_of_the_stream() -> None:
    assert new_wire().outcome() == (1006, "")


# --- sending


@pytest.mark.parametrize(
    ("size", "heads"),
    [
        (0, [b"\x81\x00"]),
        (125, [b"\x81\x7d"]),
        (126, [b"\x81\x7e\x00\x7e"]),
        (32768, [b"\x81\x7e\x80\x00"]),
        (32769, [b"\x01\x7e\x80\x00", b"\x80\x01"]),
        (65536, [b"\x01\x7e\x80\x00", b"\x80\x7e\x80\x00"]),
        (131072, [b"\x01\x7e\x80\x00", *[b"\x00\x7e\x80\x00"] * 2, b"\x80\x7e\x80\x00"]),
    ],
)
def test_what_is_sent_is_cut_into_unmasked_frames_of_at_most_32_kib(
    wire: Wire, size: int, heads: list[bytes]
) -> None:
    starts = range(0, max(size, 1), 32768)
    expected = b"".join(
        head + b"a" * (min(size, start + 32768) - start)
        for head, start in zip(heads, starts, strict=True)
    )

    assert wire.text_frames(b"a" * size) == expected


def test_a_frame_over_64_kib_has_a_size_in_eight_bytes() -> None:
    wire = Wire(message_size_max=131072, frame_size_max=131072)

    assert wire.text_frames(b"a" * 65536) == b"\x81\x7f\0\0\0\0\0\x01\0\0" + b"a" * 65536


# --- any stream


def run(pieces: list[bytes]) -> tuple[list[str], bytes, tuple[int, str]]:
    wire = new_wire()
    for piece in pieces:
        wire.receive_data(piece)
    outcome = wire.outcome()
    return wire.messages, b"".join(wire.data_to_send()), outcome


payloads = st.one_of(st.binary(max_size=130), st.text(max_size=40).map(str.encode))
frames = st.builds(
    frame,
    payloads,
    st.sampled_from([CONTINUATION, TEXT, TEXT, TEXT, BINARY, 3, CLOSE, PING, PONG]),
    fin=st.booleans(),
    masked=st.sampled_from([True, True, True, False]),
)


@pytest.mark.slow
@given(st.lists(st.one_of(frames, st.binary(max_size=20)), max_size=8), st.data())
def test_how_a_stream_is_cut_into_reads_changes_nothing(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert run(pieces) == run([stream])
