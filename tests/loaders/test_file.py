"""Definition files by themselves: what serves their routes, and what a reload changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings, strategies as st

from tests.loaders.files import HANDLER, write, write_unnoticed
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.file import DefinitionFile, open_source
from wsgateway.loaders.folder import HandlerFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsgateway.loaders.source import ApiSource

    Open = Callable[..., ApiSource]

EXAMPLE = """\
name: chat
routeSelectionExpression: $request.body.action
integrations:
  backend:
    integrationType: HTTP_PROXY
    integrationMethod: POST
    integrationUri: http://127.0.0.1:3000/ws/${stageVariables.version}
    requestParameters: {integration.request.header.connectionId: context.connectionId}
  pong:
    integrationType: MOCK
    requestTemplates: {$default: '{"statusCode": 200}'}
    integrationResponses:
      $default: {responseTemplates: {$default: '{"pong": "$context.connectionId"}'}}
  send: {integrationType: AWS_PROXY, integrationUri: "arn:aws:lambda:us-east-1:123456789012:function:send"}
  local: {integrationType: AWS_PROXY, integrationUri: "python:_local.handler"}     # in process: _local.py beside this file
models:
  message: {contentType: application/json, schema: {type: object, required: [text]}}
routes:
  $connect: {target: backend}
  $default: {target: backend, routeResponseSelectionExpression: $default}
  ping: {target: pong, routeResponseSelectionExpression: $default}
  send: {target: send, modelSelectionExpression: $default, requestModels: {$default: message}}
stages:
  dev: {stageVariables: {version: v1}, routeSettings: {send: {throttlingRateLimit: 10, throttlingBurstLimit: 5}}}
"""
MOCK = "{integrationType: MOCK, requestTemplates: {$default: '{\"statusCode\": 200}'}}"
LOCAL = "{integrationType: AWS_PROXY, integrationUri: 'python:_local.handler'}"


@pytest.fixture
def open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Write files into `chat/` of the current directory, and open one of them by that name."""
    monkeypatch.chdir(tmp_path)
    opened: list[ApiSource] = []

    def make(files: dict[str, str], name: str = "api.yaml") -> ApiSource:
        write(tmp_path / "chat", files)
        opened.append(open_source(Path("chat", name)))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def faults(act: Callable[[], object]) -> list[str]:
    with pytest.raises(OperatorFaults) as caught:
        act()
    return [str(fault) for fault in caught.value.faults]


def body(text: str) -> str:
    return f"def handler(event, context): return {text}\n"


# What can be opened


def test_a_folder_is_a_folder_of_handlers(tmp_path: Path) -> None:
    write(tmp_path, {"join.py": HANDLER})
    source = open_source(tmp_path)

    assert isinstance(source, HandlerFolder)
    assert (source.path, source.folder) == (tmp_path, tmp_path)
    source.close()


@pytest.mark.parametrize("name", ["api.yaml", "api.yml", "chat.json", "x.y.yaml"])
def test_a_file_is_a_definition(open_file: Open, name: str) -> None:
    source = open_file({name: json.dumps({"routes": {"join": {}}}), "join.py": HANDLER}, name)

    assert isinstance(source, DefinitionFile)
    assert (source.path, source.folder) == (Path("chat", name), Path("chat"))
    assert list(source.load().handlers) == ["join"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "join.py",
            (
                "chat/join.py: is neither a folder nor a definition; name a folder of handlers, "
                "or a file whose name ends in .yaml, .yml, .json"
            ),
        ),
        ("nothing", "chat/nothing: there is no such folder; name a folder of handlers"),
    ],
)
def test_what_cannot_be_opened(open_file: Open, name: str, told: str) -> None:
    assert faults(lambda: open_file({"join.py": HANDLER}, name)) == [told]


def test_a_definition_that_is_not_there(open_file: Open) -> None:
    source = open_file({"join.py": HANDLER}, "api.yaml")

    told = ["chat/api.yaml:1: cannot be read: No such file or directory; check the path"]
    assert faults(source.load) == told
    assert faults(source.definition) == told


# What serves a route


def test_the_example_of_the_documentation(open_file: Open) -> None:
    api = open_file({"api.yaml": EXAMPLE, "_local.py": HANDLER}).load()

    assert {key: route.target for key, route in api.definition.routes.items()} == {
        "$connect": "backend",
        "$default": "backend",
        "ping": "pong",
        "send": "send",
    }
    assert (api.handlers, api.function_names) == ({}, {})
    assert list(api.functions) == ["local"]
    pong = api.definition.integrations["pong"]
    assert pong.request_templates == {"$default": '{"statusCode": 200}'}
    assert pong.integration_responses["$default"].response_templates == {
        "$default": '{"pong": "$context.connectionId"}'
    }
    assert api.definition.models["message"].schema_ == {"type": "object", "required": ["text"]}
    assert api.definition.routes["send"].request_models == {"$default": "message"}
    settings = api.definition.stages["dev"].route_settings["send"]
    assert (settings.throttling_rate_limit, settings.throttling_burst_limit) == (10.0, 5)


def test_the_example_is_the_same_as_json(open_file: Open) -> None:
    text = json.dumps(yaml.safe_load(EXAMPLE), indent="\t")
    as_json = open_file({"api.json": text, "_local.py": HANDLER}, "api.json").load()
    as_yaml = open_file({"api.yaml": EXAMPLE}).load()

    assert as_json.definition == as_yaml.definition


def test_a_route_without_a_target_is_served_by_its_file(open_file: Open) -> None:
    api = open_file(
        {
            "api.yaml": (
                f"integrations: {{pong: {MOCK}}}\n"
                "routes: {$connect: {}, v1.join: {}, ping: {target: integrations/pong}}\n"
            ),
            "connect.py": HANDLER,
            "v1.join.py": HANDLER,
            "ping.py": HANDLER,
            "other.py": "1/0",
        }
    ).load()

    assert api.function_names == {"$connect": "connect", "v1.join": "v1.join"}
    assert api.handlers.keys() == api.function_names.keys()
    assert api.definition.routes["ping"].target == "pong"
    assert list(api.definition.routes) == ["$connect", "v1.join", "ping"]


@pytest.mark.parametrize("key", ["../join", "/join", "_join", ".join", "a/b", "nul\0"])
def test_a_route_key_that_no_file_is_called_by(open_file: Open, key: str) -> None:
    source = open_file(
        {
            "api.yaml": yaml.safe_dump({"routes": {key: {}}}),
            "_join.py": HANDLER,
            ".join.py": HANDLER,
            "a/b.py": HANDLER,
            "../join.py": HANDLER,
        }
    )

    [told] = faults(source.load)
    assert told == (
        f"chat/api.yaml:2: the route {key!r} has no handler; add a target, or remove the route"
    )


def test_a_function_may_be_anywhere_below_and_have_any_name(open_file: Open) -> None:
    api = open_file(
        {
            "api.yaml": (
                "integrations:\n"
                "  a: {integrationType: AWS_PROXY, integrationUri: 'python:_a.on_message'}\n"
                "  b: {integrationType: AWS_PROXY, integrationUri: 'python:lib.deep.on_message'}\n"
                "  c:\n"
                "    integrationType: AWS\n"
                "    integrationUri: python:queue.handler\n"
                "    integrationResponses: {$default: {}}\n"
                "routes: {a: {target: a}, b: {target: b}, c: {target: c}}\n"
            ),
            "_a.py": "from lib.deep import on_message",
            "lib/deep.py": "from _b import on_message",
            "_b.py": "def on_message(event, context): return 1",
            # The name of a module of the standard library.
            "queue.py": HANDLER,
        }
    ).load()

    assert list(api.functions) == ["a", "b", "c"]
    assert api.functions["a"] is api.functions["b"]


def test_faults_of_functions_are_told_with_those_of_the_definition(open_file: Open) -> None:
    source = open_file(
        {
            "api.yaml": (
                "naem: chat\n"
                "integrations:\n"
                "  a: {integrationType: AWS_PROXY, integrationUri: 'python:_a.handler'}\n"
                "  b: {integrationType: AWS_PROXY, integrationUri: 'python:_b.nobody'}\n"
                "routes: {a: {target: a}, b: {target: b}, join: {}, leave: {}}\n"
            ),
            "_a.py": "(",
            "_b.py": "nobody = 5",
            "join.py": "1/0",
        }
    )

    assert faults(source.load) == [
        (
            "chat/join.py:1: cannot be imported: ZeroDivisionError: division by zero; "
            "mend what is raised there"
        ),
        "chat/api.yaml:1: naem is not known here; did you mean name?",
        "chat/_a.py:1: cannot be compiled: '(' was never closed; mend the syntax",
        (
            "chat/_b.py:1: there is no function nobody; "
            "define nobody(event, context), which chat/api.yaml:4 names"
        ),
        (
            "chat/api.yaml:5: the route 'leave' has no handler; "
            "add chat/leave.py or a target, or remove the route"
        ),
    ]


# A folder's api.yaml is the same file


def test_a_folder_may_have_targets(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "api.yaml": (
                f"integrations: {{pong: {MOCK}, local: {LOCAL}}}\n"
                "routes: {ping: {target: pong}, run: {target: local}, join: {}}\n"
            ),
            "join.py": HANDLER,
            "leave.py": HANDLER,
            "_local.py": HANDLER,
        },
    )
    source = open_source(tmp_path)

    api = source.load()

    assert {key: route.target for key, route in api.definition.routes.items()} == {
        "join": None,
        "leave": None,
        "ping": "pong",
        "run": "local",
    }
    assert list(api.handlers) == ["join", "leave"]
    assert list(api.functions) == ["local"]
    source.close()


def test_a_folder_without_a_handler_may_have_routes(tmp_path: Path) -> None:
    write(tmp_path, {"api.yaml": f"integrations: {{i: {MOCK}}}\nroutes: {{ping: {{target: i}}}}\n"})
    source = open_source(tmp_path)

    assert source.load().handlers == {}
    source.close()


def test_in_a_folder_a_route_has_a_target_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path / "chat",
        {
            "api.yaml": f"integrations: {{pong: {MOCK}}}\nroutes:\n  ping:\n    target: pong\n",
            "ping.py": HANDLER,
        },
    )
    source = open_source(Path("chat"))

    assert faults(source.load) == [
        (
            "chat/api.yaml:4: routes.ping.target: the route 'ping' is served by chat/ping.py "
            "already; remove the target, or the file"
        )
    ]
    source.close()


def test_settings_may_name_the_routes_of_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "api.yaml": "stages: {dev: {routeSettings: {join: {throttlingRateLimit: 1}}}}\n",
            "join.py": HANDLER,
        },
    )
    source = open_source(tmp_path)

    assert source.load().definition.stages["dev"].route_settings["join"].throttling_rate_limit == 1
    source.close()


# What a reload changes


def test_a_changed_function_is_swapped_and_another_keeps_its_state(
    open_file: Open, tmp_path: Path
) -> None:
    source = open_file(
        {
            "api.yaml": (
                f"integrations: {{local: {LOCAL}}}\nroutes: {{a: {{target: local}}, b: {{}}}}\n"
            ),
            "_local.py": body("1"),
            "b.py": body("1"),
        }
    )
    before = source.load()

    write_unnoticed(tmp_path / "chat" / "_local.py", body("2"))
    after = source.reload()

    assert after.functions["local"]({}, None) == 2  # type: ignore[arg-type]
    assert before.functions["local"]({}, None) == 1  # type: ignore[arg-type]
    assert after.handlers["b"] is before.handlers["b"]


def test_a_changed_definition_is_seen(open_file: Open, tmp_path: Path) -> None:
    source = open_file({"api.yaml": "routes: {b: {}}\n", "b.py": HANDLER, "_local.py": HANDLER})
    assert source.load().functions == {}

    write(
        tmp_path / "chat",
        {"api.yaml": f"integrations: {{local: {LOCAL}}}\nroutes: {{b: {{target: local}}}}\n"},
    )
    after = source.reload()

    assert (list(after.functions), after.handlers) == (["local"], {})


def test_a_broken_edit_keeps_everything_old(open_file: Open, tmp_path: Path) -> None:
    source = open_file(
        {
            "api.yaml": f"integrations: {{l: {LOCAL}}}\nroutes: {{a: {{target: l}}}}\n",
            "_local.py": "import _table\ndef handler(event, context): return _table.T\n",
            "_table.py": "T = []",
        }
    )
    before = source.load()

    write(tmp_path / "chat", {"_local.py": "(", "api.yaml": "routes: 5\n"})
    assert len(faults(source.reload)) == 2
    assert before.functions["l"]({}, None) == []  # type: ignore[arg-type]
    write(
        tmp_path / "chat",
        {
            "_local.py": "import _table\ndef handler(event, context): return (2, _table.T)\n",
            "api.yaml": f"integrations: {{l: {LOCAL}}}\nroutes: {{a: {{target: l}}}}\n",
        },
    )
    after = source.reload()

    table = before.functions["l"]({}, None)  # type: ignore[arg-type]
    assert after.functions["l"]({}, None) == (2, table)  # type: ignore[arg-type]


def test_which_changes_concern_what_is_served(open_file: Open, tmp_path: Path) -> None:
    source = open_file({"chat.yaml": "{}"}, "chat.yaml")
    chat = (tmp_path / "chat").resolve()

    assert source.is_source(str(chat / "chat.yaml"))
    assert source.is_source("chat/chat.yaml")
    assert source.is_source(str(chat / "lib" / "_helper.py"))
    assert not source.is_source(str(chat / "api.yaml"))
    assert not source.is_source(str(chat / "data.json"))


# No document makes it raise anything but faults

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            *("$default", "HTTP", "HTTP_PROXY", "AWS", "AWS_PROXY", "MOCK", "POST", "NONE", "i"),
            *("http://h/{a}", "python:_local.handler", "arn:aws:lambda", "${stageVariables.a}"),
            *("#if(", "$request.body.a", "context.a", "route.request.body.a[", "/(/", "{"),
        ]
    )
)
NAMES = st.text(max_size=5) | st.sampled_from(
    [
        *("i", "$default", "$connect", "routes", "integrations", "models", "stages", "schema"),
        *("integrationType", "integrationUri", "integrationMethod", "requestTemplates"),
        *("requestParameters", "integration.request.path.a", "integrationResponses", "/(a/"),
        *("target", "requestModels", "modelSelectionExpression", "stageVariables", "$ref"),
        *("routeSettings", "timeoutInMillis", "credentialsArn", "responseTemplates", "name"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
ENTRIES = {
    "integrations": st.fixed_dictionaries(
        {"integrationType": SCALARS},
        optional=dict.fromkeys(
            (
                *("integrationUri", "integrationMethod", "requestTemplates", "timeoutInMillis"),
                *("requestParameters", "integrationResponses", "credentialsArn"),
            ),
            VALUES,
        ),
    ),
    "routes": st.fixed_dictionaries(
        {}, optional={"target": SCALARS, "requestModels": VALUES, "requestParameters": VALUES}
    ),
    "models": st.fixed_dictionaries({}, optional={"schema": VALUES}),
    "stages": st.fixed_dictionaries({}, optional={"stageVariables": VALUES}),
}
DEFINITIONS = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(NAMES, entry | VALUES, max_size=3) for name, entry in ENTRIES.items()
    },
)
QUIET = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def load_or_tell(open_file: Open, name: str, text: str | bytes) -> None:
    source = open_file({name: "", "_local.py": HANDLER, "i.py": HANDLER}, name)
    source.path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="replace"))
    told = ["served"]
    try:
        source.load()
    except OperatorFaults as error:
        told = [str(fault) for fault in error.faults]
    finally:
        source.close()
    assert told
    assert [fault.splitlines() for fault in told] == [[fault] for fault in told]


@pytest.fixture
def open_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Write files and open one of them; whoever asks closes it."""
    monkeypatch.chdir(tmp_path)

    def make(files: dict[str, str], name: str) -> ApiSource:
        write(tmp_path / "chat", files)
        return open_source(Path("chat", name))

    return make


@pytest.mark.slow
@QUIET
@given(DEFINITIONS | VALUES)
@example({"integrations": {"i": {"integrationType": "AWS", "integrationUri": "python:i.handler"}}})
@example({"models": {"a": {"schema": {"maximum": float("inf")}}}})
def test_no_definition_raises_anything_else(open_once: Open, document: Any) -> None:
    load_or_tell(open_once, "api.yaml", yaml.safe_dump(document, allow_unicode=True))
    load_or_tell(open_once, "api.json", json.dumps(document))


@pytest.mark.slow
@QUIET
@given(st.text() | st.binary())
@example('{"a": "\\ud800"}')
@example('{"name": 1' + "0" * 5000 + "}")
@example("name: 1" + "0" * 5000)
@example("[" * 100_000)
@example('{"a":' * 10_000)
@example(
    "a: &a [x]\n"
    + "".join(f"b{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}, *a]\n" for n in range(9))
)
def test_no_text_raises_anything_else(open_once: Open, text: str | bytes) -> None:
    load_or_tell(open_once, "api.yaml", text)
    load_or_tell(open_once, "api.json", text)


def test_aliases_that_stand_for_more_and_more(open_file: Open) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    source = open_file({"api.yaml": "\n".join(lines)})

    assert faults(source.load) == [
        "chat/api.yaml:1: has more than 100000 values; use fewer aliases"
    ]
