"""The page about testing: its examples are a project, and its tests pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.project import run_pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_examples_of_the_page_run(tmp_path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    for name, content in blocks:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)

    ran = run_pytest(tmp_path)

    # Every block of code is one of them.
    assert len(blocks) == len(re.findall(r"```(?:python|toml)\n", text))
    assert ran.passed == len(re.findall(r"^async def test_", text, re.MULTILINE)), ran.output
    assert ran.returncode == 0, ran.output
