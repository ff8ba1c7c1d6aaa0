"""Every rule of a definition: the line, what is wrong, what would be right.

Where API Gateway has a text for a fault, it is part of ours. The cases are in
`definition_faults.txt`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.loaders.files import HANDLER
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.file import DefinitionFile

FILE = Path("api.yaml")
CASES = re.findall(
    r"^===\n(?P<document>.*?)^---\n(?P<faults>.*?)(?=\n\n|\Z)",
    Path(__file__).with_name("definition_faults.txt").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "handled.py": HANDLER,
        "_local.py": HANDLER,
        "_broken.py": "1/0\n",
    }.items():
        Path(name).write_text(text)


def faults(document: str) -> list[str]:
    FILE.write_text(document)
    source = DefinitionFile(FILE)
    try:
        with pytest.raises(OperatorFaults) as caught:
            source.load()
    finally:
        source.close()
    return [str(fault).removeprefix("api.yaml:") for fault in caught.value.faults]


@pytest.mark.parametrize(("document", "told"), CASES, ids=range(len(CASES)))
def test_a_fault_has_its_line_and_what_would_be_right(document: str, told: str) -> None:
    assert faults(document) == told.rstrip("\n").split("\n")


def test_there_are_cases() -> None:
    assert len(CASES) > 100


def test_faults_of_all_kinds_are_told_at_once_by_line() -> None:
    """What does not fit is left out, and says nothing about what refers to it."""
    assert faults(
        "integrations:\n"
        "  backend: {integrationType: HTTP_PROXY, integrationUri: http://h/}\n"
        "  wrong: {integrationType: LAMBDA}\n"
        "  local: {integrationType: AWS_PROXY, integrationUri: 'python:_nobody.handler'}\n"
        "models:\n"
        "  message: {schema: {type: nope}}\n"
        "  wrong: {schema: 5}\n"
        "  refers: {schema: {$ref: 'https://apigateway.amazonaws.com/restapis/a/models/wrong'}}\n"
        "routes:\n"
        "  a: {target: wrong, requestModels: {$default: wrong}, modelSelectionExpression: $default}\n"
        "  b: {target: bakend}\n"
        "  c: {tarket: backend}\n"
        "  nobody: {}\n"
        "stages:\n"
        "  dev: {routeSettings: {c: {}, d: {}}}\n"
        "  prod: {stageVars: {}}\n"
    ) == [
        (
            "2: integrations.backend.integrationMethod: HttpMethod parameter method must be "
            "specified for integrationType HTTPPROXY; add integrationMethod: POST"
        ),
        (
            "3: integrations.wrong.integrationType must be 'AWS_PROXY', 'AWS', 'HTTP_PROXY', "
            "'HTTP' or 'MOCK'; got 'LAMBDA'"
        ),
        ("4: integrations.local.integrationUri: there is no _nobody.py; add it, or mend the name"),
        (
            "6: models.message.schema is not a JSON Schema of draft 4 at type: "
            "\"nope\" is not valid under any of the schemas listed in the 'anyOf' keyword; "
            "see https://json-schema.org/draft-04"
        ),
        (
            "7: models.wrong.schema is neither a mapping nor JSON text; "
            "write one such as {type: object}"
        ),
        "11: routes.b.target: there is no integration 'bakend'; did you mean backend?",
        "12: routes.c.tarket is not known here; did you mean target?",
        ("13: the route 'nobody' has no handler; add nobody.py or a target, or remove the route"),
        (
            "15: stages.dev.routeSettings.d: Unable to find Route by key d within the provided "
            "RouteSettings; declared are: a, b, nobody, c"
        ),
        "16: stages.prod.stageVars is not known here; did you mean stageVariables?",
    ]


@pytest.mark.parametrize(
    "document",
    [
        # A section that cannot be read says nothing of what refers to it.
        (
            "integrations: []\nmodels: 5\nroutes: {a: {target: b, requestModels: {c: d}, "
            "modelSelectionExpression: c}}\n"
        ),
        (
            "stages: 5\nintegrations: {i: {integrationType: HTTP_PROXY, integrationMethod: POST, "
            "integrationUri: 'http://${stageVariables.a}/'}}\nroutes: {a: {target: i}}\n"
        ),
        "routes: 5\nstages: {dev: {routeSettings: {a: {}}}}\n",
        "5",
        "[]",
    ],
)
def test_a_section_that_is_no_mapping(document: str) -> None:
    told = faults(document)

    assert all("is not a mapping" in fault for fault in told)
