from __future__ import annotations

import subprocess
import sys

import pytest

# Each in a process of its own: the one that runs the tests has its own configuration.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ran.stderr == ""
    return ran.stdout


def test_all_is_as_it_was_when_the_last_one_ends() -> None:
    assert (
        run("""
import os, resource, threading
from concurrent.futures import ThreadPoolExecutor
import boto3, structlog
from wsgateway.testing.environment import HandlerEnvironment
from wsgateway.testing.process import changed

def state():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (type(os.environ), dict(os.environ), threading.Thread.start, ThreadPoolExecutor.submit,
            boto3.DEFAULT_SESSION, structlog.is_configured(), limit)

boto3.setup_default_session()
before = state()
with changed():
    with changed(), HandlerEnvironment({}).active():
        os.environ["NAME"] = "a"
        assert boto3.DEFAULT_SESSION is None
        boto3.client("sts", region_name="us-east-1")
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[-1][0] - 1, before[-1][1]))
    during = state()
    assert all(during[number] != before[number] for number in (0, 2, 3, 4, 5, 6))
assert state() == before
print("done")
""")
        == "done\n"
    )


def test_what_somebody_put_on_top_stays() -> None:
    assert (
        run("""
import threading
from concurrent.futures import ThreadPoolExecutor
import structlog
from wsgateway.testing.process import changed

with changed():
    ours = threading.Thread.start, ThreadPoolExecutor.submit
    threading.Thread.start = theirs = lambda self: ours[0](self)
    ThreadPoolExecutor.submit = theirs_too = lambda *args, **kwargs: ours[1](*args, **kwargs)
    structlog.configure(processors=[])

assert threading.Thread.start is theirs
assert ThreadPoolExecutor.submit is theirs_too
assert structlog.get_config()["processors"] == []
with ThreadPoolExecutor() as pool:
    print(pool.submit(int, "1").result())
""")
        == "1\n"
    )


def test_a_log_that_is_configured_stays_as_it_is() -> None:
    assert (
        run("""
import structlog
from wsgateway.testing.process import changed

structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
before = structlog.get_config()
with changed():
    assert structlog.get_config() == before
    structlog.get_logger().info("hello")
assert structlog.get_config() == before
""")
        == "event='hello'\n"
    )


def test_a_log_that_is_not_has_plain_tracebacks() -> None:
    printed = run("""
import structlog
from wsgateway.testing.process import changed

with changed():
    try:
        secret = "a local variable"
        raise KeyError("room")
    except KeyError:
        structlog.get_logger().exception("failed")
""")

    assert "KeyError: 'room'" in printed
    assert "a local variable" not in printed.replace('secret = "a local variable"', "")
    assert "\x1b" not in printed


def test_an_environment_that_was_replaced_is_told() -> None:
    assert (
        run("""
import os
from wsgateway.testing.process import changed

os.environ = dict(os.environ)
try:
    with changed():
        pass
except RuntimeError as error:
    print(error)
""")
        == "os.environ has been replaced with another object: change its items instead\n"
    )
