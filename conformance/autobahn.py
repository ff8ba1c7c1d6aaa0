"""Runs the Autobahn Testsuite's fuzzing client against a two-way echo route: `make autobahn`.

https://github.com/crossbario/autobahn-testsuite

Strict mode refuses two things by design that the suite sends: binary messages, with 1003, and
frames over 32 KiB, with 1009. A case that sends one of them is excluded, whatever comes of it; that
is read from the suite's own log of the frames it sent, never from the verdict. An excluded case must
still end with one of those two codes, unless it passes anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsgateway.limits import FRAME_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
APP = Path(__file__).parent / "echo"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
WORK = ROOT / "build" / "autobahn"  # `make clean` removes it
HOST = "127.0.0.1"
AGENT = "wsgateway"
# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing; and 10, automatic fragments.
# 9 measures throughput, 12 and 13 are permessage-deflate, which is declined.
GROUPS = ("1", "2", "3", "4", "5", "6", "7", "10")
# 6.4 asks that bad UTF-8 is refused before its message is complete. That is optional in RFC 6455
# (8.1), and the suite says so: NON-STRICT.
NON_STRICT_IN = "6.4."

INSTALL_TIMEOUT_S = 600
RUN_TIMEOUT_S = 1800
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 45.0

# RFC 6455, 5.2 and 7.4.1
_BINARY = 2
_UNSUPPORTED_DATA, _MESSAGE_TOO_BIG = 1003, 1009

PASSED = frozenset({"OK", "INFORMATIONAL"})
BINARY = "sends a binary message"
LARGE = f"sends a frame over {FRAME_SIZE_MAX // 1024} KiB"

NO_PYTHON = """\
The Autobahn Testsuite runs on Python 2.7 only, and there is none: neither in PYTHON2, nor as
python2.7 or python2 on PATH, nor among pyenv's versions. With pyenv:

    pyenv install 2.7.18
    make autobahn PYTHON2="$(pyenv prefix 2.7.18)/bin/python2.7"
"""


class Failed(Exception):
    """The suite could not be run; the text says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one case.

    Attributes:
        number: As the suite has it, `6.4.1`.
        behavior: The suite's verdict on what was echoed.
        behavior_close: Its verdict on the end of the connection.
        close_code: What the gateway closed with, if it did.
        reasons: Why strict mode refuses what the case sends; empty if it does not.
    """

    number: str
    behavior: str
    behavior_close: str
    close_code: int | None
    reasons: tuple[str, ...]

    @property
    def group(self) -> str:
        return ".".join(self.number.split(".")[:2])

    @property
    def verdict(self) -> str:
        """The worse one of the two."""
        return self.behavior if self.behavior_close in PASSED else f"close: {self.behavior_close}"

    @property
    def passed(self) -> bool:
        allowed = {*PASSED, "NON-STRICT"} if self.number.startswith(NON_STRICT_IN) else PASSED
        return self.behavior in allowed and self.behavior_close in PASSED

    @property
    def refused(self) -> bool:
        """Whether the gateway closed as it does on what strict mode does not take."""
        return self.close_code in {_UNSUPPORTED_DATA, _MESSAGE_TOO_BIG}

    @property
    def failed(self) -> bool:
        return not self.passed and not (self.reasons and self.refused)


def find_python2() -> str:
    """Return a Python 2.7 that runs; pyenv's shims are on PATH also where they do not."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates: list[str | Path | None] = [os.environ.get("PYTHON2")]
    candidates += [shutil.which(name) for name in ("python2.7", "python2")]
    candidates += sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True)
    for candidate in candidates:
        if candidate and _is_python2(str(candidate)):
            return str(candidate)
    raise Failed(NO_PYTHON)


def _is_python2(command: str) -> bool:
    check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        done = subprocess.run([command, "-c", check], capture_output=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install(python2: str) -> Path:
    """Return the folder with the suite, which is installed there the first time."""
    site = WORK / "site"
    wanted = REQUIREMENTS.read_text(encoding="utf-8") + python2
    stamp = site / ".installed"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return site
    say(f"installing the suite for {python2}")
    shutil.rmtree(site, ignore_errors=True)
    # pip 20.3 is the last one for 2.7; it has no virtualenv beside it, and needs none for this.
    command = [python2, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(site), "--requirement", str(REQUIREMENTS)]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    stamp.write_text(wanted, encoding="utf-8")
    return site


class Gateway:
    """The gateway as a user starts it, with messages handled one after the other."""

    def __enter__(self) -> int:
        """Return the port."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WSGATEWAY_")}
        self._log = (WORK / "gateway.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "wsgateway.cli", "serve", str(APP), "--port", str(port)],
            cwd=ROOT,
            # Otherwise echoes could overtake each other, which the suite takes for a fault.
            env=environment | {"WSGATEWAY_IN_FLIGHT_MAX": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("wsgateway is ready"):
            self._process.wait(READY_TIMEOUT_S)
            raise Failed(f"the gateway did not start; see {self._log.name}")
        return port

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process.stdout.close()
        self._log.close()
        if code:
            raise Failed(f"the gateway ended with {code}; see {self._log.name}")


def run(python2: str, site: Path, cases: Sequence[str]) -> Path:
    """Run cases and return the folder of the suite's reports."""
    reports = WORK / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    with Gateway() as port, (WORK / "suite.log").open("w", encoding="utf-8") as log:
        spec = WORK / "fuzzingclient.json"
        server = {"agent": AGENT, "url": f"ws://{HOST}:{port}/dev"}
        options = {"outdir": str(reports), "servers": [server], "cases": list(cases)}
        spec.write_text(json.dumps(options, indent=1), encoding="utf-8")
        # Not PYTHONPATH, which would leave out what packages put into .pth files.
        script = f"import site; site.addsitedir({str(site)!r})\n"
        script += "from autobahntestsuite.wstest import run; run()"
        with subprocess.Popen(  # noqa: S603
            [python2, "-c", script, "--mode", "fuzzingclient", "--spec", str(spec)],
            cwd=WORK,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as suite:
            try:
                code = suite.wait(RUN_TIMEOUT_S)
            except BaseException:
                suite.kill()
                raise
    if code or not (reports / "index.json").is_file():
        raise Failed(f"the suite ended with {code}; see {log.name}")
    return reports


def read(reports: Path) -> list[Case]:
    """Return the cases of a report in the order of their numbers."""
    index = json.loads((reports / "index.json").read_text(encoding="utf-8"))[AGENT]
    return sorted(
        (_case(number, reports / index[number]["reportfile"]) for number in index), key=_order
    )


def _case(number: str, file: Path) -> Case:
    report: dict[str, Any] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if not report["createWirelog"]:
        raise Failed(f"case {number} does not log its frames")
    return Case(
        number=number,
        behavior=report["behavior"],
        behavior_close=report["behaviorClose"],
        close_code=report["remoteCloseCode"],
        reasons=tuple(_reasons(report["wirelog"])),
    )


def _reasons(wirelog: Iterable[Sequence[Any]]) -> Iterator[str]:
    # "TF", [octets, text], opcode, fin, rsv, mask, the size to which the text is repeated or cut
    sent = [(entry[2], entry[6] or entry[1][0]) for entry in wirelog if entry[0] == "TF"]
    if any(opcode == _BINARY for opcode, _ in sent):
        yield BINARY
    if any(size > FRAME_SIZE_MAX for _, size in sent):
        yield LARGE


def _order(case: Case) -> list[int]:
    return [int(part) for part in case.number.split(".")]


def ranges(cases: Iterable[Case]) -> str:
    """Return numbers with runs of neighbours drawn together: `1.2.1-1.2.8, 2.4`."""
    found: list[list[list[int]]] = []
    for number in sorted(_order(case) for case in cases):
        last = found[-1][-1] if found else None
        if last and last[:-1] == number[:-1] and last[-1] + 1 == number[-1]:
            found[-1].append(number)
        else:
            found.append([number])
    names = [[".".join(map(str, number)) for number in (run[0], run[-1])] for run in found]
    return ", ".join(f"{first}-{last}" if first != last else first for first, last in names)


def markdown(cases: Sequence[Case]) -> str:
    """Return the fragment for docs/compatibility.md."""
    lines = [
        "| Cases | Sent | Passed | Of these | Excluded | Failed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for group, members in groupby(cases, key=lambda case: case.number.split(".")[0]):
        lines.append(_row(TITLES[group], group, list(members)))
    lines.append(_row("all", "", list(cases)))
    by_reason: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.reasons:
            by_reason[" and ".join(case.reasons)].append(case)
    lines += ["", "| Excluded because the case | Cases | What came of it |", "| --- | --- | --- |"]
    for reason, members_of in by_reason.items():
        outcomes = Counter(
            f"{case.behavior} all the same" if case.passed else f"closed with {case.close_code}"
            for case in members_of
        )
        told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        lines.append(f"| {reason} | {ranges(members_of)} | {told} |")
    return "\n".join(lines) + "\n"


TITLES = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "reserved opcodes",
    "5": "fragments",
    "6": "UTF-8",
    "7": "closing",
    "10": "automatic fragments",
}


def _row(title: str, group: str, cases: Sequence[Case]) -> str:
    counted = [case for case in cases if not case.reasons]
    passed = [case for case in counted if case.passed]
    special = Counter(case.behavior for case in passed if case.behavior != "OK")
    told = ", ".join(
        f"{count} {behavior} ({ranges(c for c in passed if c.behavior == behavior)})"
        if group
        else f"{count} {behavior}"
        for behavior, count in sorted(special.items())
    )
    excluded = len(cases) - len(counted)
    failed = sum(case.failed for case in cases)
    name = f"{group} {title}".strip()
    return f"| {name} | {len(cases)} | {len(passed)} | {told} | {excluded or ''} | {failed} |"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.autobahn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "cases",
        nargs="*",
        default=[f"{group}.*" for group in GROUPS],
        metavar="CASE",
        help="numbers or patterns, such as 6.4.* (default: groups " + ", ".join(GROUPS) + ")",
    )
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = parse()
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        python2 = find_python2()
        site = install(python2)
        say("running; the suite waits a second in some cases")
        cases = read(run(python2, site, options.cases))
    except Failed as error:
        say(str(error))
        return 1
    said = markdown(cases)
    (WORK / "result.md").write_text(said, encoding="utf-8")
    say(said)
    say(f"details: {WORK / 'reports' / 'index.html'}")
    failures = [case for case in cases if case.failed]
    for case in failures:
        say(f"FAILED {case.number}: {case.verdict}, closed with {case.close_code}")
    if not cases:
        say("no such case")
    return int(bool(failures) or not cases)


if __name__ == "__main__":
    sys.exit(main())
