"""docs/definition.md: written from the code, and its examples do what it says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.loaders.files import HANDLER
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.file import open_source
from wsgateway.loaders.summary import summary

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "definition.md").read_text(encoding="utf-8")
EXAMPLE, FAULTY = (
    block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "routes:" in block
)
SERVED, TOLD = re.findall(r"```console\n\$ wsgateway validate api.yaml\n(.*?)```", PAGE, re.DOTALL)


def writer() -> Any:
    spec = importlib.util.spec_from_file_location("definition_page", DOCS / "definition_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_the_schema_are_up_to_date() -> None:
    module = writer()

    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run `make docs`"
    assert module.SCHEMA.read_text(encoding="utf-8") == module.schema(), "run `make docs`"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("_local.py").write_text(HANDLER)


def test_the_example_is_served_as_it_says() -> None:
    Path("api.yaml").write_text(EXAMPLE)
    source = open_source(Path("api.yaml"))

    lines = summary(source.load(), {"dev": "ws://127.0.0.1:8080/dev"})

    assert lines == SERVED.splitlines()
    source.close()


def test_the_faults_are_told_as_it_says() -> None:
    Path("api.yaml").write_text(FAULTY)
    source = open_source(Path("api.yaml"))

    with pytest.raises(OperatorFaults) as caught:
        source.load()

    assert list(map(str, caught.value.faults)) == TOLD.splitlines()
    source.close()


def test_every_property_stands_in_the_page() -> None:
    schema = yaml.safe_load((DOCS / "api.schema.json").read_text(encoding="utf-8"))
    parts = [schema, *schema["definitions"].values()]
    names = {name for part in parts for name in part.get("properties", {})}

    assert [name for name in sorted(names) if f"`{name}`" not in PAGE and name != "required"] == []
