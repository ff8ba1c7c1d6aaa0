"""Clients of others, installed once into `build/clients`, which `make clean` removes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / "build" / "clients"
AWS_CLI = "awscli==1.46.2"
NODE_MIN = 20  # of the AWS SDK for JavaScript
INSTALL_TIMEOUT_S = 300
CHECK_TIMEOUT_S = 60


def aws_cli() -> str:
    """Return the AWS CLI of PATH, or one in an environment of its own: it pins its botocore."""
    there = shutil.which("aws")
    if there is not None and _runs(there, "--version"):
        return there
    folder = CACHE / "awscli"
    with _installing(folder, AWS_CLI) as needed:
        if needed:
            _install("awscli", sys.executable, "-m", "venv", "--clear", str(folder))
            pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
            _install("awscli", *pip, "--disable-pip-version-check", AWS_CLI)
    return str(folder / "bin" / "aws")


def node_modules() -> Path:
    """Return the folder of what `package.json` names."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        not_run("node or npm is missing: install Node.js 20 or newer with npm")
    version = _output(node, "--version")
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) < NODE_MIN:
        not_run(f"Node.js is {version}: install {NODE_MIN} or newer")
    folder = CACHE / "node"
    package = HERE / "package.json"
    with _installing(folder, package.read_text(encoding="utf-8")) as needed:
        if needed:
            shutil.copy(package, folder)
            quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
            _install(
                "npm's packages",
                *(npm, "install", "--prefix", str(folder), "--ignore-scripts", *quiet),
            )
    return folder / "node_modules"


def not_run(reason: str) -> NoReturn:
    """Skip, and say why; where nobody reads what is skipped, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"cannot run on this CI machine: {reason}", pytrace=False)
    pytest.skip(f"NOT RUN: {reason}")


@contextmanager
def _installing(folder: Path, wanted: str) -> Iterator[bool]:
    """Tell whether to install; several test processes take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / ".installed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needed = not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted
        yield needed
        if needed:
            stamp.write_text(wanted, encoding="utf-8")


def _install(what: str, *command: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        not_run(f"installing {what} took more than {INSTALL_TIMEOUT_S} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        not_run(f"{what} could not be installed: {last}")


def _runs(*command: str) -> bool:
    """Whether a command works: pyenv's shims are on PATH also where they do not."""
    try:
        return not subprocess.run(
            command, capture_output=True, check=False, timeout=CHECK_TIMEOUT_S
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def _output(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=CHECK_TIMEOUT_S
    )
    return done.stdout.strip()
