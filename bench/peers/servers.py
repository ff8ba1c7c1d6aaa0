"""The peers: what they are, what installs them, and which row they are measured in."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import CPU_SCHED, BenchError, process_tree
from bench.peers.installed import HERE, environment, folder, found
from bench.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SET_UP_TIMEOUT_S = 900
VERSION_TIMEOUT_S = 30
MISSING = 3  # the scripts' exit code where something has to be installed by hand


class Absent(Exception):
    """A peer is not here; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One server of others.

    Attributes:
        name: As `python -m bench.peers.start` has it.
        title: As its makers have it.
        what: What it does with a message.
        row: The row of `python -m bench` in which it is measured.
        home: The folder of what it is started with, and in the cache of what is installed for it.
        set_up: The script and its arguments; the peer's folder comes first.
        copies: Files that it needs in that folder.
        versions: Tells what was installed.
        settings: What is not as installed.
        ready_statuses: What it answers when it is ready.
        parallel: Whether several threads or processes of its own share the core.
    """

    name: str
    title: str
    what: str
    row: str
    home: str
    set_up: Sequence[str]
    versions: Callable[[], str]
    settings: str
    copies: Sequence[str] = ()
    ready_statuses: Sequence[int] = range(100, 600)
    parallel: bool = False


def npm(peer: str, package: str) -> str:
    """The version of an npm package in a peer's folder."""
    file = folder(peer) / "node_modules" / package / "package.json"
    version: str = json.loads(file.read_text(encoding="utf-8"))["version"]
    return f"{package} {version}"


def said(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a program says of its version."""
    done = subprocess.run(  # noqa: S603
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=VERSION_TIMEOUT_S,
        env=env,
    )
    return done.stdout.strip()


def debian(peer: str, package: str) -> str:
    """The version of a Debian package that was unpacked for a peer, or else is installed."""
    for file in (folder(peer) / "packages").glob(f"{package}_*.deb"):
        return said("dpkg-deb", "--field", file, "Version")
    return said("dpkg-query", "--show", "--showformat=${Version}", package)


def nginx_versions() -> str:
    nginx = said(found("nchan", "usr/sbin/nginx"), "-v", env=environment("nchan"))
    return f"nginx {nginx.rpartition('/')[2]}, nchan {debian('nchan', 'libnginx-mod-nchan')}"


def serverless_versions() -> str:
    packages = [npm("serverless-offline", name) for name in ("serverless-offline", "serverless")]
    return f"{', '.join(packages)}, Node {said('node', '--version')}"


PEERS = (
    Peer(
        name="ws",
        home="ws",
        title="Node ws",
        what="a bare echo, no routes and no handler",
        row="message",
        set_up=("npm.sh",),
        copies=("package.json",),
        versions=lambda: f"{npm('ws', 'ws')}, Node {said('node', '--version')}",
        settings="no compression, which is ws's default",
    ),
    Peer(
        name="serverless-offline",
        title="serverless-offline",
        what="the same route and an async function in JavaScript, in a worker thread",
        row="message",
        home="serverless-offline",
        set_up=("npm.sh",),
        copies=("package.json", "serverless.yml", "handler.js"),
        parallel=True,
        versions=serverless_versions,
        settings="as installed, but without a time limit; one log line per call, into a file",
    ),
    Peer(
        name="serverless-offline-in-process",
        title="serverless-offline, in process",
        what="the same, in its own thread",
        row="message",
        home="serverless-offline",
        set_up=("npm.sh",),
        copies=("package.json", "serverless.yml", "handler.js"),
        versions=serverless_versions,
        settings="--useInProcess, without a time limit; one log line per call, into a file",
    ),
    Peer(
        name="pushpin",
        home="pushpin",
        title="Pushpin",
        what="WebSocket-over-HTTP to a backend that echoes",
        row="message",
        set_up=("debian.sh", "pushpin", "condure", "zurl"),
        versions=lambda: f"Pushpin {debian('pushpin', 'pushpin')}",
        settings="message_rate and message_hwm 1,000,000 (2,500 and 25,000 as installed), "
        "log_level 1; the backend, httptools on uvloop, is part of the figure",
        # Its backend answers a plain GET; until then there is no answer, or 502.
        ready_statuses=(200,),
        parallel=True,
    ),
    Peer(
        name="nchan",
        home="nchan",
        title="nginx with nchan",
        what="publishing to a channel with one WebSocket subscriber",
        row="post",
        set_up=("nginx.sh",),
        versions=nginx_versions,
        settings="one worker, nchan_store_messages off, no access log, "
        "nchan_shared_memory_size 1g (128 MB as installed)",
    ),
)


def set_up(peer: Peer) -> str:
    """Installs a peer, unless it is, and returns its versions.

    Raises:
        Absent: It cannot be had here.
        BenchError: It should be there, and is not.
    """
    here = folder(peer.home)
    here.mkdir(parents=True, exist_ok=True)
    wanted = "\n".join([*peer.set_up, *((HERE / peer.home / f).read_text() for f in peer.copies)])
    stamp = here / "installed"
    with (here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in peer.copies:
            shutil.copy(HERE / peer.home / name, here)
        if not stamp.is_file() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            run_script(peer, here)
            stamp.write_text(wanted)
    try:
        return peer.versions()
    except FileNotFoundError as error:
        raise Absent(f"{error.filename} is missing") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{peer.title} is installed but does not run: {error}") from error


def run_script(peer: Peer, here: Path) -> None:
    script, *arguments = peer.set_up
    try:
        done = subprocess.run(  # noqa: S603
            [HERE / script, here, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SET_UP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{script} took more than {SET_UP_TIMEOUT_S} s") from error
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode == MISSING:
        raise Absent(last)
    if done.returncode:
        raise BenchError(f"{script} ended with {done.returncode}: {last}")


class PeerServer(Server):
    """A peer that runs.

    Attributes:
        shares: What part of its CPU time each of its programs had, by name; known at the end.
    """

    generator = "bench.peers.load"

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.name = peer.name
        self.ready_statuses = peer.ready_statuses
        self.shares: dict[str, float] = {}

    def command(self) -> Sequence[str]:
        return ("-m", "bench.peers.start", self.name, str(self.port))

    def __exit__(self, *exception: object) -> None:
        try:
            self.shares = shares(self.pid)
        except OSError:
            self.fault = f"{self.name} ended before it was stopped"
        super().__exit__(*exception)


def shares(pid: int) -> dict[str, float]:
    """What part of the CPU time of a process tree each program in it had so far."""
    spent: dict[str, int] = {}
    for process in process_tree(pid):
        name = Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip()
        spent[name] = spent.get(name, 0) + time.clock_gettime_ns(~process << 3 | CPU_SCHED)
    total = sum(spent.values())
    return {name: ns / total for name, ns in spent.items()}
