"""Several workers on one machine: a supervisor that starts them, and starts again those that die.

    supervisor   binds the ports, forks the workers, prints that all are ready; serves nothing
    worker       a node like any other, with a tag of its own; what is between them goes by Redis

Each worker listens on a socket of its own (SO_REUSEPORT), and the kernel spreads clients over
them by a hash of their address. That is even: 800 clients came to 197, 175, 218 and 210 over four
workers. Where workers share one socket, whoever wakes first takes the client: 473, 69, 122, 136
(both measured on two cores). With connections that last for hours such a start stays.
The price: a worker whose loop hangs keeps the clients that the kernel gave it waiting.

The supervisor keeps each port bound, without listening, so that it stays theirs while workers are
started again. The sockets that listen belong to the workers alone: when one dies, the kernel
closes its socket at once, and gives the next clients to the others.

Between the two is a pair of sockets, the worker's line. Upwards go faults, or URLs once it serves.
Downwards goes one byte to stop and another to hurry: not signals, for a terminal or a service
manager sends those to all processes of a group, and a worker that got two of them would not drain.
When the supervisor dies, however it does, the line ends, and the worker drains and ends too.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson
import structlog

from wsgateway.cluster.publisher import Backoff
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.ports import Ports, bind_ports

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable, Sequence

    from wsgateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)

DIED_AT_START = 1
"""The exit code when a worker died at the start, and could not say why."""

# From one start of a worker to the next; doubled each time, until it has served for a while.
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 10.0
_STEADY_S = 10.0
# A worker that is to hurry ends itself after five seconds.
_HURRY_TIMEOUT_S = 7.0
_READ_SIZE = 65_536
_ORDER = b"!"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Worker:
    """A worker's side of its line.

    Args:
        number: From 1 on.
        ports: Where it listens.
        line: To the supervisor.
    """

    def __init__(self, number: int, ports: Ports, line: socket.socket) -> None:
        self.number = number
        self.ports = ports
        self._line = line
        self._is_ready = False

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of all workers with what is this one's own."""
        name = f"{settings.name_of_node}-{self.number}"
        return settings.model_copy(update={"node_name": name})

    def ready(self, urls: Sequence[str]) -> None:
        """Say that it serves."""
        self._is_ready = True
        self._say({"urls": urls})

    def give_up(self, faults: Iterable[Fault]) -> None:
        """Say why it does not serve; the supervisor prints it."""
        self._say({"faults": [(f.place, f.problem, f.remedy) for f in faults]})

    def follow(
        self, loop: AbstractEventLoop, ordered: Callable[[], None], left: Callable[[], None]
    ) -> None:
        """Call back when the supervisor orders to stop or to hurry, and when it is gone."""

        def heard() -> None:
            try:
                orders = self._line.recv(_READ_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                orders = b""
            for _ in orders:
                ordered()
            if orders:
                return
            loop.remove_reader(self._line)
            if not self._is_ready:
                # It may wait for Redis, and has nothing to drain.
                os._exit(DIED_AT_START)
            left()

        loop.add_reader(self._line, heard)

    def _say(self, what: object) -> None:
        # A supervisor that is gone is noticed by follow().
        with suppress(OSError):
            self._line.sendall(orjson.dumps(what) + b"\n")


class Reserved:
    """A port that is kept for workers: bound on each address of its host, and never listening.

    Args:
        sockets: Bound without SO_REUSEPORT, so that it was nobody else's.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        for bound in sockets:
            # From now on others of the same user may bind it too, which are the workers.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def another(self) -> list[socket.socket]:
        """Bind it once more, for one worker.

        Raises:
            OSError: There are no descriptors.
        """
        sockets: list[socket.socket] = []
        try:
            for reserved in self._sockets:
                bound = socket.socket(reserved.family, reserved.type, reserved.proto)
                sockets.append(bound)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if bound.family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind(reserved.getsockname())
        except OSError:
            for bound in sockets:
                bound.close()
            raise
        return sockets

    def close(self) -> None:
        """Let go of it."""
        for bound in self._sockets:
            bound.close()


class ReservedPorts:
    """The ports of all workers.

    The main port is shared; each worker has a management port of its own, if there is one, so that
    its metrics and its health can be told from those of the others.
    """

    def __init__(self, public: Reserved, management: Sequence[Reserved]) -> None:
        self._public = public
        self._management = management

    def of(self, number: int) -> Ports:
        """Return what a worker listens on."""
        public = self._public.another()
        try:
            management = self._management[number - 1].another() if self._management else []
        except OSError:
            Ports(public, []).close()
            raise
        return Ports(public, management)

    def close(self) -> None:
        """Let go of them."""
        for reserved in (self._public, *self._management):
            reserved.close()


def reserve_ports(settings: Settings) -> ReservedPorts:
    """Bind the ports that the settings name, for all workers.

    Raises:
        OperatorFaults: One is taken, or an address is not this machine's.
    """
    first = bind_ports(settings)
    if settings.management_port is None:
        return ReservedPorts(Reserved(first.public), [])
    sockets = [first.management]
    faults: list[Fault] = []
    for number in range(1, settings.workers):
        # 0 picks a free one for each.
        port = settings.management_port and settings.management_port + number
        host = settings.management_host or settings.host
        alone = {"host": host, "port": port, "management_port": None}
        try:
            sockets.append(bind_ports(settings.model_copy(update=alone)).public)
        except OperatorFaults as error:
            place = settings.place("management_port")
            faults += [replace(fault, place=place) for fault in error.faults]
    if faults:
        Ports(first.public, [bound for of_one in sockets for bound in of_one]).close()
        raise OperatorFaults(faults)
    return ReservedPorts(Reserved(first.public), [Reserved(of_one) for of_one in sockets])


@dataclass(slots=True, eq=False)
class _Life:
    """A worker, from its start to its death.

    Attributes:
        pid: Of its process.
        line: To it.
        heard: What came by it, and is no whole line yet.
        urls: Where it serves; empty before it does.
        faults: Why it does not serve.
    """

    number: int
    pid: int
    line: socket.socket
    heard: bytes = b""
    urls: Sequence[str] = ()
    faults: list[Fault] = field(default_factory=list)
    ready_at: float | None = None

    def listen(self) -> None:
        """Take what it has said."""
        while True:
            try:
                data = self.line.recv(_READ_SIZE)
            except OSError:
                return
            if not data:
                return
            *lines, self.heard = (self.heard + data).split(b"\n")
            for line in lines:
                said = orjson.loads(line)
                if "urls" in said:
                    self.urls, self.ready_at = said["urls"], time.monotonic()
                self.faults += [Fault(*parts) for parts in said.get("faults", ())]

    def order(self) -> None:
        """Tell it to stop; the second time, to hurry."""
        with suppress(OSError):
            self.line.send(_ORDER)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Supervisor:
    """Keeps the workers.

    It has one thread and no event loop, so that it can fork whenever a worker is to be started;
    and it imports no handlers, so that a worker which is started again runs what they say then.

    Args:
        count: How many workers.
        ports: Theirs.
        on_ready: Called once, with all URLs, when all serve.
    """

    def __init__(
        self, count: int, ports: ReservedPorts, *, on_ready: Callable[[Sequence[str]], None]
    ) -> None:
        self._count = count
        self._ports = ports
        self._on_ready = on_ready
        self._lives: dict[int, _Life] = {}
        self._backoffs = [Backoff(_PAUSE_MIN_S, _PAUSE_MAX_S) for _ in range(count)]
        self._due: dict[int, float] = {}
        self._has_been_ready = False
        self._orders = 0
        self._kill_at: float | None = None
        self._exit_code = 0
        self._faults: list[Fault] = []
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._alarm = socket.socketpair()

    def run(self) -> Worker | int:
        """Start the workers and keep them until a signal.

        Returns:
            In each worker its own part, at once. In the supervisor the exit code, at the end.

        Raises:
            OperatorFaults: At the start, a worker found what has to be mended.
        """
        self._wakeup.settimeout(0)
        self._alarm.settimeout(0)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _nothing)
        self._due = dict.fromkeys(range(1, self._count + 1), time.monotonic())
        while self._lives or not self._orders:
            worker = self._start_due()
            if worker is not None:
                return worker
            self._wait()
            for life in list(self._lives.values()):
                life.listen()
                self._reap(life)
            self._look_at_start()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                log.warning("workers are still running, and are killed", count=len(self._lives))
                self._kill_at = None
                for life in self._lives.values():
                    life.kill()
        self._ports.close()
        if self._faults:
            raise OperatorFaults(self._faults)
        return self._exit_code

    # --- the loop's steps

    def _wait(self) -> None:
        """Wait for a worker or a signal, or until something is due."""
        instants = [*self._due.values(), *([] if self._kill_at is None else [self._kill_at])]
        timeout_s = max(0.0, min(instants) - time.monotonic()) if instants else None
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._wakeup:
                numbers = self._wakeup.recv(_READ_SIZE)
                for _ in range(numbers.count(signal.SIGTERM) + numbers.count(signal.SIGINT)):
                    self._stop()
            elif isinstance(key.fileobj, socket.socket) and _has_ended(key.fileobj):
                # Its process ends soon, which SIGCHLD tells.
                self._selector.unregister(key.fileobj)

    def _stop(self) -> None:
        self._orders += 1
        self._due.clear()
        for life in self._lives.values():
            life.order()
            # What does not serve yet has nothing to drain, and may wait for Redis for ever.
            if life.ready_at is None:
                life.kill()
        if self._orders > 1 and self._kill_at is None:
            self._kill_at = time.monotonic() + _HURRY_TIMEOUT_S

    def _reap(self, life: _Life) -> None:
        pid, status = os.waitpid(life.pid, os.WNOHANG)
        if pid == 0:
            return
        # What it said last.
        life.listen()
        with suppress(KeyError):
            self._selector.unregister(life.line)
        life.line.close()
        del self._lives[life.number]
        code = os.waitstatus_to_exitcode(status)
        if self._orders:
            if self._orders == 1 and life.ready_at is not None and code != 0:
                log.error("a worker died while it was draining", worker=life.number, exit_code=code)
                self._exit_code = DIED_AT_START
            return
        if not self._has_been_ready:
            self._start_failed(life, code)
            return
        served_s = 0.0 if life.ready_at is None else time.monotonic() - life.ready_at
        backoff = self._backoffs[life.number - 1]
        if served_s >= _STEADY_S:
            backoff.succeeded()
        pause_s = backoff.failed()
        self._due[life.number] = time.monotonic() + pause_s
        log.error(
            "a worker has ended, and is started again",
            worker=life.number,
            pid=life.pid,
            exit_code=code,
            pause_s=round(pause_s, 3),
            **({"faults": [*map(str, life.faults)]} if life.faults else {}),
        )

    def _start_failed(self, life: _Life, code: int) -> None:
        self._faults = life.faults
        if not life.faults:
            log.error("a worker died at the start", worker=life.number, exit_code=code)
            self._exit_code = DIED_AT_START
        self._stop()

    def _look_at_start(self) -> None:
        """Say that all are ready, once."""
        if self._has_been_ready or self._orders:
            return
        lives = [self._lives[number] for number in sorted(self._lives)]
        if len(lives) == self._count and all(life.ready_at is not None for life in lives):
            self._has_been_ready = True
            self._on_ready(list(dict.fromkeys(url for life in lives for url in life.urls)))

    # --- starting

    def _start_due(self) -> Worker | None:
        """Start what is due; returns in each worker with its part, here with None."""
        for number, due_at in list(self._due.items()):
            if due_at > time.monotonic():
                continue
            del self._due[number]
            try:
                worker = self._start(number)
            # Too few descriptors, or processes.
            except OSError as error:
                if not self._has_been_ready:
                    raise
                pause_s = self._backoffs[number - 1].failed()
                self._due[number] = time.monotonic() + pause_s
                log.warning("a worker cannot be started", worker=number, error=str(error))
            else:
                if worker is not None:
                    return worker
        return None

    def _start(self, number: int) -> Worker | None:
        ports = self._ports.of(number)
        mine, its = socket.socketpair()
        # What is written but not sent would be sent by both.
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that the child gets first would be told to nobody.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker()
                mine.close()
        except OSError:
            mine.close()
            its.close()
            ports.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid == 0:
            return Worker(number, ports, its)
        its.close()
        ports.close()
        mine.settimeout(0)
        self._lives[number] = _Life(number, pid, mine)
        self._selector.register(mine, selectors.EVENT_READ)
        log.info("a worker is started", worker=number, pid=pid)
        return None

    def _become_worker(self) -> None:
        """Leave what is the supervisor's alone; other workers' lines would not end with it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # While it loads handlers the supervisor ends it; a terminal's Ctrl-C goes to both.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.close()
        self._wakeup.close()
        self._alarm.close()
        for life in self._lives.values():
            life.line.close()
        self._ports.close()


def _nothing(*_: object) -> None:
    """Let a signal be told by its number, to `set_wakeup_fd`."""


def _has_ended(line: socket.socket) -> bool:
    try:
        return not line.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
