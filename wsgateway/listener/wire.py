"""The WebSocket protocol as strict mode speaks it, on websockets' sans-I/O core.

Text only, no extension, empty close reasons, AWS's sizes. Pure: bytes in, messages and bytes out.
"""

from __future__ import annotations

import logging
from struct import pack
from typing import TYPE_CHECKING

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import CloseCode, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - the wheel for platforms without a C compiler
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from websockets.frames import Frame

# The core reports each closed connection at level INFO; the access log does so already.
_LOGGER = logging.getLogger(__name__)
_LOGGER.setLevel(logging.WARNING)

# RFC 6455, 5.2
_FIN, _CONTINUATION, _TEXT = 0x80, 0x0, 0x1
_MASKED = 0x80
_SIZE_IN_TWO_BYTES, _SIZE_IN_EIGHT_BYTES = 126, 127
_MASKED_HEAD_SIZE = 6  # when the size fits in the second byte
_NO_STATUS_REASON = "Client-side close frame status not set"


class Wire(ServerProtocol):
    """One connection after its opening handshake.

    Feed it with `receive_data` and `receive_eof`, then take `messages` and `data_to_send()`.

    Args:
        message_size_max: Bytes of a message; above it the connection fails with 1009.
        frame_size_max: Bytes of a frame's payload; above it the connection fails with 1009.
    """

    __slots__ = (
        "_at_frame_start",
        "_fragments",
        "_frame_size_max",
        "_message_size_max",
        "_whole_frame_size_max",
        "messages",
    )

    def __init__(self, *, message_size_max: int, frame_size_max: int) -> None:
        # The core would apply a message's remaining bytes to a ping between its fragments too,
        # so messages are bounded in recv_frame(); a frame's bound is at least a control frame's.
        super().__init__(state=State.OPEN, max_size=(None, frame_size_max), logger=_LOGGER)
        self._message_size_max = message_size_max
        self._frame_size_max = frame_size_max
        self._whole_frame_size_max = min(frame_size_max, message_size_max)
        self._at_frame_start = True
        # One buffer: a list of fragments can take many times the bytes that the client sends.
        self._fragments = bytearray()
        self.messages: list[str] = []

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take bytes in.

        What nearly all of them are, whole text frames, is read here at a third of the core's
        price; anything else, and all that is wrong, is the core's.
        """
        if self._at_frame_start:
            data = self._take_text_frames(data)
            if not data:
                return
        self._at_frame_start = False
        super().receive_data(data)

    def _take_text_frames(self, data: bytes | bytearray) -> bytes | bytearray:
        """Collect whole, unfragmented text frames (RFC 6455, 5.2) and return what follows."""
        if self._state is not State.OPEN or self.current_size is not None:
            return data
        at, end = 0, len(data)
        while end - at > _MASKED_HEAD_SIZE and data[at] == _TEXT | _FIN:
            size, body = data[at + 1] - _MASKED, at + _MASKED_HEAD_SIZE
            if size == _SIZE_IN_TWO_BYTES:
                size, body = int.from_bytes(data[at + 2 : at + 4]), body + 2
            elif not 0 <= size < _SIZE_IN_TWO_BYTES:  # not masked, or a size in eight bytes
                break
            stop = body + size
            if size > self._whole_frame_size_max or stop > end:
                break
            try:
                message = apply_mask(data[body:stop], data[body - 4 : body]).decode()
            except UnicodeDecodeError:
                break
            self.messages.append(message)
            at = stop
        return data[at:]

    def recv_frame(self, frame: Frame) -> None:
        """Collect messages; control frames are the core's."""
        # The core has read a frame: with nothing left it waits for the first byte of another.
        self._at_frame_start = not self.reader.buffer
        opcode = frame.opcode
        if opcode is Opcode.CLOSE:
            # RFC 6455, 5.4: it may come inside a fragmented message, which then never ends.
            self.current_size = None
        elif self._state is not State.OPEN:
            # RFC 6455, 1.4: nothing is processed after our own close frame.
            return
        if opcode is not Opcode.TEXT and opcode is not Opcode.CONT and opcode is not Opcode.BINARY:
            super().recv_frame(frame)
            self.events.clear()
            return
        if (self.current_size is None) == (opcode is Opcode.CONT):
            raise ProtocolError("fragments out of order")
        if opcode is Opcode.BINARY:
            self.fail(CloseCode.UNSUPPORTED_DATA)
            return
        data = frame.data
        size = len(data) + len(self._fragments)
        if size > self._message_size_max:
            raise PayloadTooBig(size, self._message_size_max)
        if not frame.fin:
            self._fragments += data
            self.current_size = size
            return
        if self.current_size is not None:
            data = self._fragments + data
            self._fragments = bytearray()
            self.current_size = None
        # Bad UTF-8 raises here, and the core fails the connection with 1007.
        self.messages.append(str(data, "utf-8"))

    def fail(self, code: CloseCode | int, reason: str = "") -> None:  # noqa: ARG002 - see docstring
        """Fail the connection without telling why: API Gateway's close frames have no reason."""
        super().fail(code)

    def failed(self) -> bool:
        """Whether the client's breach has begun the closing.

        The last of `writes` are then, until they are taken, our close frame and the stream's end.
        """
        return self._state is State.CLOSING and self.close_rcvd is None and self.eof_sent

    def text_frames(self, payload: bytes) -> bytes:
        """Return one text message as frames (RFC 6455, 5.2; a server's are not masked).

        Args:
            payload: UTF-8; cut into frames of at most `frame_size_max` bytes.
        """
        size, step = len(payload), self._frame_size_max
        if size <= step:
            return _head(_TEXT | _FIN, size) + payload
        parts = [_head(_TEXT, step), payload[:step]]
        for start in range(step, size, step):
            part = payload[start : start + step]
            fin = _FIN if start + step >= size else 0
            parts += (_head(_CONTINUATION | fin, len(part)), part)
        return b"".join(parts)

    def outcome(self) -> tuple[int, str]:
        """Return `disconnectStatusCode` and `disconnectReason` once the socket is gone.

        Whoever closed first decides.
        """
        if self.close_rcvd is not None and (self.close_sent is None or self.close_rcvd_then_sent):
            if self.close_rcvd.code == CloseCode.NO_STATUS_RCVD:
                return int(CloseCode.NO_STATUS_RCVD), _NO_STATUS_REASON
            return int(self.close_rcvd.code), self.close_rcvd.reason
        if self.close_sent is not None:
            return int(self.close_sent.code), self.close_sent.reason
        return int(CloseCode.ABNORMAL_CLOSURE), ""


def _head(first_byte: int, size: int) -> bytes:
    if size < _SIZE_IN_TWO_BYTES:
        return bytes((first_byte, size))
    if size <= 0xFFFF:  # noqa: PLR2004 - what two bytes hold
        return pack("!BBH", first_byte, _SIZE_IN_TWO_BYTES, size)
    return pack("!BBQ", first_byte, _SIZE_IN_EIGHT_BYTES, size)
