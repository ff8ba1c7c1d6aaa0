"""What the set-up scripts leave behind, and where."""

from __future__ import annotations

import os
import socket
from pathlib import Path

HOST = "127.0.0.1"
HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / "peers"  # `make clean` removes it


def folder(name: str) -> Path:
    """A peer's own folder, in which its script installs."""
    return CACHE / name


def found(name: str, path: str) -> Path:
    """A file of a Debian package: where `debian.sh` unpacked it, else where it was installed."""
    unpacked = folder(name) / "root" / path
    return unpacked if unpacked.exists() else Path("/") / path


def environment(name: str) -> dict[str, str]:
    """The environment in which unpacked programs find each other and their libraries."""
    root = folder(name) / "root"
    libraries = [*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")]
    programs = [root / "usr/bin", root / "usr/sbin"]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
    }


def filled(template: Path, values: dict[str, object]) -> str:
    """A configuration file with its `@NAMES@` replaced."""
    text = template.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
