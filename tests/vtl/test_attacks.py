"""No template and no message takes long, takes much memory, or reaches what it should not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vtl.attacks import (
    ATTACKS,
    BOUNDED,
    MEMORY_MAX,
    Attack,
    outcome,
)
from tests.vtl.rendering import render
from wsgateway.vtl import Template


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_or_bounded(attack: Attack) -> None:
    ending = outcome(attack)

    if attack.outcome == BOUNDED:
        assert ending.startswith("rendered ")
    else:
        assert ending.startswith("refused: ")
        assert attack.outcome in ending


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_what_attacks_take(capsys: pytest.CaptureFixture[str]) -> None:
    """Measured in a process of its own, since what others have cached counts too.

    Memory is asserted. Time is printed, for the machine may be busy; what bounds it is counted in
    steps, and asserted above.
    """
    # Measuring coverage would be most of what is measured.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    finished = subprocess.run(
        [sys.executable, Path(__file__).with_name("attacks.py")],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    )

    costs = [json.loads(line) for line in finished.stdout.splitlines()]
    with capsys.disabled():
        print(f"\n{'compile':>9} {'render':>9} {'memory':>9}")  # noqa: T201
        for name, compiling, rendering, memory in costs:
            print(  # noqa: T201
                f"{compiling * 1e3:6.1f} ms {rendering * 1e3:6.1f} ms {memory / 1e6:6.1f} MB  {name}"
            )
    assert [name for name, *_ in costs] == [attack.name for attack in ATTACKS]
    for name, _, _, memory in costs:
        assert memory < MEMORY_MAX, name


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("$input.__class__$util.__class__.__mro__$context.__dict__$input._body$input._parse", ""),
        ("$input.member('body')$context.members()$context._values$context.text()", ""),
        ("$context.get('__class__')$context['__class__']$input.params()._values", ""),
        ("$context.identity.__class__$stageVariables.__init__()", ""),
        ("#foreach($i in [1])$!foreach.__class__$!foreach.size$!foreach.methods#end", ""),
        ("#set($e = {'a': 1})#foreach($x in $e.entrySet())$!x.__class__$!x.__slots__#end", ""),
        ("#define($d)x#end$!d.write$!d.__class__", ""),
        ("#set($x = '{0.__class__}')$!x.format($input)$!x.__class__$!x.join([1])", ""),
        ("#set($x = 1)$!x.__class__$!x.real$!x.numerator", ""),
        ("#set($x = [])$!x.__class__$!x.append$!x.sort()", ""),
    ],
)
def test_nothing_of_python_can_be_reached(template: str, output: str) -> None:
    assert render(template) == output


def test_a_member_of_the_message_is_never_taken_for_an_attribute() -> None:
    body = '{"__class__": "a", "_id": "b", "keys": "c", "get": "d", "size": "e"}'
    template = "#set($r = $input.path('$'))$r.__class__ $r._id $r.keys $r.get $r.size $r.get('size') $r.size()"

    assert render(template, body) == "a b c d e e 5"


def test_a_template_cannot_be_changed_from_outside() -> None:
    assert not hasattr(Template.__new__(Template), "__dict__")
