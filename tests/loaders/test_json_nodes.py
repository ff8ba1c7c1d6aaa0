"""JSON definitions: read as JSON, not as the YAML that it nearly is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from wsgateway.api.definition import ApiDefinition
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.json_nodes import compose_json
from wsgateway.loaders.yaml_file import load_definition

FILE = Path("api.json")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str) -> ApiDefinition:
    FILE.write_text(text, encoding="utf-8")
    return load_definition(FILE, ApiDefinition)[0]


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"name":"chat"}', "chat"),
        ('{\n\t"name": "chat"\n}', "chat"),
        ('\ufeff{"name": "chat"}\r\n', "chat"),
        (r'{"name": "a\/b"}', "a/b"),
        (r'{"name": "\ud83d\ude00"}', "\N{GRINNING FACE}"),
        (r'{"name": "\u0041\t"}', "A\t"),
        ('{"name": "$default: {a}"}', "$default: {a}"),
        ('{"name": "yes"}', "yes"),
        ('{"name": "\x7f\x85"}', "\x7f\x85"),
        (f'{{"name": "{"x" * 128}"}}', "x" * 128),
    ],
)
def test_a_value_is_what_json_says(text: str, name: str) -> None:
    assert load(text).name == name


@pytest.mark.usefixtures("_here")
def test_a_file_is_read_with_the_line_of_each_value() -> None:
    FILE.write_text('\n{\n  "routes": {\n    "on": {\n    },\n\n    "1": {}}, "name":\n"chat"\n}')

    definition, lines = load_definition(FILE, ApiDefinition)

    assert list(definition.routes) == ["on", "1"]
    assert lines == {
        (): 1,
        ("routes",): 3,
        ("routes", "on"): 4,
        ("routes", "1"): 7,
        ("name",): 7,
    }


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: is not JSON: a value is missing; see https://json.org"),
        ('{\n"name": }', "2: is not JSON: a value is missing; see https://json.org"),
        (
            '{\n"name": "a",\n}',
            "3: is not JSON: a name in double quotes is missing; see https://json.org",
        ),
        ("{name: chat}", None),
        ("{'name': 'chat'}", None),
        ('{"name" "chat"}', "1: is not JSON: : is missing; see https://json.org"),
        ('{"name": "a" "b": 1}', "1: is not JSON: , is missing; see https://json.org"),
        ('{"name": "a"}\n\nx', "3: is not JSON: something follows the end; see https://json.org"),
        ('{"name": "a', "1: is not JSON: unterminated string starting at; see https://json.org"),
        ('{"name": "a\tb"}', "1: is not JSON: invalid control character at; see https://json.org"),
        (r'{"name": "\x"}', None),
        ('{"name": 01}', None),
        ('{"name": +1}', None),
        ('{"name": .5}', None),
        ('{"name": NaN}', None),
        ('{"name": nul}', None),
        ("# comment\n{}", None),
        ("[" * 5000, "1: is nested too deep; nest less"),
        # It is JSON, and no definition.
        ("[]", "1: the file is not a mapping; got []"),
        ("null", None),
        (
            '{"name": "a",\n"name": "b"}',
            "2: the key 'name' is there already, on line 1; remove one of them",
        ),
        ('{"name": 5}', '1: name is not text; put it in quotes: "5"'),
        ('{"name": 1e5}', '1: name is not text; put it in quotes: "1e5"'),
        ('{"name": true}', '1: name is not text; put it in quotes: "true"'),
        ('{"name":\nnull}', "1: name is empty; give it a value, or remove it"),
        (f'{{"name": 1{"0" * 5000}}}', None),
        ('{"disableSchemaValidation": 1}', None),
        (r'{"name": "\ud800"}', None),
    ],
)
def test_a_fault_has_its_line(text: str, told: str | None) -> None:
    if text == "null":
        assert load(text) == ApiDefinition()
        return
    with pytest.raises(OperatorFaults) as caught:
        load(text)

    [fault] = caught.value.faults
    assert str(fault).isprintable()
    assert told is None or str(fault) == f"api.json:{told}"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 2, "\t"]))
def test_whatever_json_writes_is_read(value: object, indent: int | str | None) -> None:
    node = compose_json(json.dumps(value, indent=indent))

    assert constructed(node) == value


def constructed(node: yaml.Node) -> object:
    match node:
        case yaml.MappingNode(value=pairs):
            return {key.value: constructed(value) for key, value in pairs}
        case yaml.SequenceNode(value=elements):
            return [constructed(element) for element in elements]
        case _:
            value: object = yaml.constructor.SafeConstructor().construct_object(node)
            return value
