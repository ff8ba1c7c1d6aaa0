"""Definition files: every fault with its line and what would be right, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wsgateway.api.definition import ApiDefinition
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.yaml_file import load_definition

FILE = Path("api.yaml")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str | bytes) -> ApiDefinition:
    FILE.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_definition(FILE, ApiDefinition)[0]


def faults(text: str | bytes) -> list[str]:
    with pytest.raises(OperatorFaults) as caught:
        load(text)
    return [str(fault).removeprefix("api.yaml:") for fault in caught.value.faults]


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "{}", "---\n...\n", "null"])
def test_an_empty_file_declares_nothing(text: str) -> None:
    assert load(text) == ApiDefinition()


def test_a_file_is_read_with_the_line_of_each_value() -> None:
    FILE.write_text("name: chat\nroutes:\n  echo:\n    operationName: Echo\n  join: {}\n")

    definition, lines = load_definition(FILE, ApiDefinition)

    assert definition.name == "chat"
    assert list(definition.routes) == ["echo", "join"]
    assert lines == {
        (): 1,
        ("name",): 1,
        ("routes",): 2,
        ("routes", "echo"): 3,
        ("routes", "echo", "operationName"): 4,
        ("routes", "join"): 5,
    }


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffname: chat",
        "name: chat\r\nroutes: {}\r\n",
        "{name: chat}",
        '{"name": "chat", "routes": {}}',
        "%YAML 1.1\n---\nname: chat\n",
    ],
)
def test_yaml_may_be_written_in_many_ways(text: str) -> None:
    assert load(text).name == "chat"


def test_an_alias_is_what_it_stands_for() -> None:
    definition = load(
        "stages:\n  dev: &it {stageVariables: {table: conns}}\n  prod: *it\n"
        "routes: {a: &r {}, b: *r}\n"
    )

    assert definition.stages["prod"].stage_variables == {"table": "conns"}
    assert list(definition.routes) == ["a", "b"]


@pytest.mark.parametrize("key", ["1", "on", "null", "2024-01-02", "1.5"])
def test_a_key_is_text_however_yaml_reads_it(key: str) -> None:
    assert list(load(f"routes:\n  {key}: {{}}\n").routes) == [key]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # Names that are not known.
        ("\nnaem: x", "2: naem is not known here; did you mean name?"),
        (
            "route_selection_expression: $default",
            (
                "1: route_selection_expression is not known here; "
                "did you mean routeSelectionExpression?"
            ),
        ),
        (
            "Routes: {}",
            "1: Routes is not known here; did you mean routes?",
        ),
        (
            "zzz: x",
            (
                "1: zzz is not known here; known are: $schema, name, description, protocolType, "
                "routeSelectionExpression, disableSchemaValidation, integrations, models, routes, "
                "stages"
            ),
        ),
        (
            "routes:\n  echo:\n    timeoutInMillis: 5",
            (
                "3: routes.echo.timeoutInMillis is not known here; known are: target, "
                "routeResponseSelectionExpression, operationName, modelSelectionExpression, "
                "requestModels, requestParameters, authorizationType, apiKeyRequired"
            ),
        ),
        (
            "stages:\n  dev: {stageVars: {}}",
            "2: stages.dev.stageVars is not known here; did you mean stageVariables?",
        ),
        ("<<: {}", None),
        # Values that are not what they should be.
        ("- a\n- b", "1: the file is not a mapping; got ['a', 'b']"),
        ("just text", "1: the file is not a mapping; got 'just text'"),
        ("routes: [echo]", "1: routes is not a mapping; got ['echo']"),
        ("routes:\n  echo: two-way", "2: routes.echo is not a mapping; got 'two-way'"),
        ("routes:\n  echo:\n", "2: routes.echo is empty; write {}, or remove it"),
        ("stages:\n", "1: stages is empty; write {}, or remove it"),
        ("name:\n", "1: name is empty; give it a value, or remove it"),
        ("name: ''", "1: name must have at least 1 character; got ''"),
        ("name: 5", '1: name is not text; put it in quotes: "5"'),
        ("name: {a: b}", "1: name is not text; got {'a': 'b'}"),
        (
            "stages:\n  dev:\n    stageVariables:\n      at: 12:30\n",
            '4: stages.dev.stageVariables.at is not text; put it in quotes: "12:30"',
        ),
        (
            "stages:\n  dev:\n    stageVariables:\n      on: yes\n",
            '4: stages.dev.stageVariables.on is not text; put it in quotes: "yes"',
        ),
        (
            "stages: {dev: {stageVariables: {day: 2024-01-02}}}",
            '1: stages.dev.stageVariables.day is not text; put it in quotes: "2024-01-02"',
        ),
        (
            "routes: {a: {routeResponseSelectionExpression: default}}",
            "1: routes.a.routeResponseSelectionExpression must be '$default'; got 'default'",
        ),
        (
            "routes:\n  $foo: {}",
            (
                "2: routes.$foo: a route key that begins with $ is one of $connect, $disconnect, "
                "$default; got '$foo'"
            ),
        ),
        (
            "stages:\n  a/b: {}",
            (
                "2: stages.a/b: a stage name has 1 to 128 letters, digits, hyphens and underscores; "
                "got 'a/b'"
            ),
        ),
        (
            "stages:\n  _wsgateway: {}",
            (
                "2: stages._wsgateway: _wsgateway is reserved for the gateway's own paths; "
                "got '_wsgateway'"
            ),
        ),
        ("routeSelectionExpression: $request.body.", None),
        # What is no YAML, or not the YAML that is read here.
        ("routes:\n\techo: {}", None),
        ("a: b: c", None),
        ("routes: {", None),
        ("a: 1\n---\nb: 2", None),
        ("routes: *nothing", None),
        ("\nname: !Ref x", "2: the tag !Ref is not known here; write the value without it"),
        (
            "routes: !Sub {a: {}}",
            "1: the tag !Sub is not known here; write the value without it",
        ),
        (
            "stages: !!set {dev}",
            "1: the tag !!set is not known here; write the value without it",
        ),
        ("? [a]\n: b", "1: a key is not text; write a name"),
        ("routes: &a {b: *a}", "1: an alias stands for what it is in; write it out"),
    ],
)
def test_a_fault_has_its_line_and_what_would_be_right(text: str, fault: str | None) -> None:
    [told] = faults(text)

    assert "\n" not in told
    assert "; " in told
    assert told.partition(":")[0].isdigit()
    assert fault is None or told == fault


def test_tabs_are_told_as_such() -> None:
    assert faults("routes:\n\techo: {}") == [
        (
            "2: is not YAML: found character '\\t' that cannot start any token; "
            "indent with spaces, not tabs"
        )
    ]


def test_all_faults_are_told_at_once() -> None:
    assert faults(
        "naem: chat\n"
        "name: chat\n"
        "name: chat again\n"
        "routes:\n"
        "  echo: {timeoutInMillis: 5, operationName: 7}\n"
        "  echo: {}\n"
        "  $foo: {}\n"
        "stages:\n"
        "  dev: !Ref x\n"
        "  prod: []\n"
    ) == [
        "1: naem is not known here; did you mean name?",
        "3: the key 'name' is there already, on line 2; remove one of them",
        '5: routes.echo.operationName is not text; put it in quotes: "7"',
        (
            "5: routes.echo.timeoutInMillis is not known here; known are: target, "
            "routeResponseSelectionExpression, operationName, modelSelectionExpression, "
            "requestModels, requestParameters, authorizationType, apiKeyRequired"
        ),
        "6: the key 'echo' is there already, on line 5; remove one of them",
        (
            "7: routes.$foo: a route key that begins with $ is one of $connect, $disconnect, "
            "$default; got '$foo'"
        ),
        "9: the tag !Ref is not known here; write the value without it",
        "10: stages.prod is not a mapping; got []",
    ]


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"name: a\n# caf\xe9\n", "2: is not UTF-8"),
        (b"name: a\n\nb: \0\n", "3: is not YAML: a character that YAML does not allow: #x0000"),
        ("name: a".encode("utf-16"), "1: is not UTF-8"),
    ],
)
def test_bytes_that_are_no_text(data: bytes, place: str) -> None:
    [told] = faults(data)

    assert told.startswith(place)


def test_a_file_nested_too_deep() -> None:
    assert faults("[" * 1000) == ["1: is nested too deep; nest less"]


def test_a_long_value_is_told_in_short() -> None:
    [told] = faults(f"name: {'x' * 500}")

    assert told == ("1: name must have at most 128 characters; got 'xxxxxxxxxxxx...xxxxxxxxxxxxx'")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    FILE.mkdir()

    with pytest.raises(OperatorFaults) as caught:
        load_definition(FILE, ApiDefinition)

    assert str(caught.value) == "api.yaml:1: cannot be read: Is a directory; check the path"


@pytest.mark.parametrize("value", ["2024-13-45", "99:99:99x", "~x", ".nan.", "0x"])
def test_text_that_only_looks_like_something_else_is_text(value: Any) -> None:
    assert load(f"name: {value}").name == value
