"""Where settings come from, and how faults in them are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wsgateway.settings import Settings, derived_api_id, is_loopback, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path("gateway.toml")
DEFAULTS = Settings.model_validate({})


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    toml: str | bytes | None = None,
) -> tuple[Settings, list[str]]:
    if toml is not None:
        FILE.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    settings, faults = load_settings(flags or {}, environ or {}, None if toml is None else FILE)
    return settings, [str(fault) for fault in faults]


def settings(*sources: Any) -> Settings:
    loaded, faults = load(*sources)
    assert faults == []
    return loaded


def faults(*sources: Any) -> list[str]:
    return load(*sources)[1]


# Precedence


def test_defaults() -> None:
    assert settings() == DEFAULTS
    assert (DEFAULTS.host, DEFAULTS.port, DEFAULTS.path) == (
        "127.0.0.1",
        8080,
        Path("routes"),
    )


@pytest.mark.parametrize(
    ("sources", "port"),
    [
        (({"port": "1"}, {"WSGATEWAY_PORT": "2"}, "port = 3"), 1),
        (({}, {"WSGATEWAY_PORT": "2"}, "port = 3"), 2),
        (({}, {}, "port = 3"), 3),
        (({}, {}, ""), 8080),
    ],
)
def test_flags_win_over_variables_and_variables_over_the_file(sources: Any, port: int) -> None:
    assert settings(*sources).port == port


def test_each_setting_comes_from_the_first_source_that_has_it() -> None:
    merged = settings(
        {"port": "1"}, {"WSGATEWAY_STAGE": "prod"}, 'port = 3\nstage = "x"\nregion = "eu-west-1"'
    )

    assert (merged.port, merged.stage, merged.region) == (1, "prod", "eu-west-1")


def test_other_variables_are_not_ours() -> None:
    assert settings({}, {"PORT": "1", "XWSGATEWAY_PORT": "2", "wsgateway_port": "3"}) == DEFAULTS


@pytest.mark.parametrize(
    "service", ["WSGATEWAY", "WSGATEWAY_MANAGEMENT", "WSGATEWAY_REDIS", "WSGATEWAY_2"]
)
@pytest.mark.parametrize(
    ("address", "authority"), [("10.0.0.11", "10.0.0.11"), ("fd00::b", "[fd00::b]")]
)
def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_not_ours(
    service: str, address: str, authority: str
) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
    environ = {
        f"{service}_SERVICE_HOST": address,
        f"{service}_SERVICE_PORT": "8081",
        f"{service}_SERVICE_PORT_HTTP_METRICS": "8081",
        f"{service}_PORT": f"tcp://{authority}:8081",
        f"{service}_PORT_8081_TCP": f"tcp://{authority}:8081",
        f"{service}_PORT_8081_TCP_PROTO": "tcp",
        f"{service}_PORT_8081_TCP_PORT": "8081",
        f"{service}_PORT_8081_TCP_ADDR": address,
        f"{service}_PORT_53_UDP": f"udp://{authority}:53",
    }

    assert settings({}, environ) == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WSGATEWAY_PORT", "tcp://"),
        ("WSGATEWAY_PORT", "tcp://redis:6379"),
        ("WSGATEWAY_PORT", "tcp://10.0.0.11"),
        ("WSGATEWAY_PORT", "http://10.0.0.11:80"),
        ("WSGATEWAY_MANAGEMENT_PORT", "10.0.0.11:8081"),
        ("WSGATEWAY_MANAGMENT_PORT", "8081"),
        ("WSGATEWAY_PORTS", "tcp://10.0.0.11:80"),
        ("WSGATEWAY_REDIS_PORT", "6379"),
        ("WSGATEWAY_SERVICE_HOST", "gateway.example"),
        ("WSGATEWAY_SERVICE_PORT", "http"),
        ("WSGATEWAY_SERVICE", "10.0.0.11"),
        ("WSGATEWAY_TLS_PORT_8081_TCP_NAME", "x"),
    ],
)
def test_what_kubernetes_would_not_write_is_ours_and_told(variable: str, value: str) -> None:
    [fault] = faults({}, {variable: value})

    assert fault.startswith(f"{variable}: ")


# Faults


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        # Names that are not known.
        (({}, {}, "\nprot = 1"), "gateway.toml:2: there is no setting 'prot'; did you mean port?"),
        (
            ({}, {"WSGATEWAY_PROT": "1"}),
            "WSGATEWAY_PROT: there is no setting 'prot'; did you mean WSGATEWAY_PORT?",
        ),
        (
            ({}, {"WSGATEWAY_ZZZ": "1"}),
            "WSGATEWAY_ZZZ: there is no setting 'zzz'; docs/configuration.md has all",
        ),
        (
            ({}, {}, "[server]\nport = 1"),
            "gateway.toml:1: there is no setting 'server'; docs/configuration.md has all",
        ),
        # Values, wherever they come from.
        (({"port": "x"},), "--port: must be a valid integer; got 'x'"),
        (({"port": "65536"},), "--port: must be less than or equal to 65535; got '65536'"),
        (
            ({"management_port": "-1"},),
            "--management-port: must be greater than or equal to 0; got '-1'",
        ),
        (({}, {"WSGATEWAY_PORT": ""}), "WSGATEWAY_PORT: must be a valid integer; got ''"),
        (
            ({}, {}, "# port = 1\nstage = 'dev'\n'port' = 70000"),
            "gateway.toml:3: port must be less than or equal to 65535; got 70000",
        ),
        (
            ({}, {"WSGATEWAY_RELOAD": "maybe"}),
            "WSGATEWAY_RELOAD: must be a valid boolean; got 'maybe'",
        ),
        (
            ({}, {"WSGATEWAY_LOG_LEVEL": "loud"}),
            "WSGATEWAY_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'; got 'loud'",
        ),
        (
            ({}, {}, "account_id = 123456789012"),
            'gateway.toml:1: account_id must be a valid string; put it in quotes: "123456789012"',
        ),
        (
            ({}, {"WSGATEWAY_ACCOUNT_ID": "123"}),
            "WSGATEWAY_ACCOUNT_ID: must match pattern '^[0-9]{12}$'; got '123'",
        ),
        (
            ({}, {"WSGATEWAY_API_ID": "Chat!"}),
            "WSGATEWAY_API_ID: must match pattern '^[a-z0-9]{1,32}$'; got 'Chat!'",
        ),
        (
            ({}, {"WSGATEWAY_CALLBACK_URL": "gateway:8080"}),
            "WSGATEWAY_CALLBACK_URL: must match pattern '^https?://[^/]+'; got 'gateway:8080'",
        ),
        (
            ({}, {"WSGATEWAY_DRAIN_DELAY_S": "inf"}),
            "WSGATEWAY_DRAIN_DELAY_S: must be a finite number; got 'inf'",
        ),
        (
            ({}, {"WSGATEWAY_GRACE_PERIOD_S": "-1"}),
            "WSGATEWAY_GRACE_PERIOD_S: must be greater than or equal to 0; got '-1'",
        ),
        (
            ({}, {"WSGATEWAY_MESSAGE_SIZE_MAX": "131073"}),
            "WSGATEWAY_MESSAGE_SIZE_MAX: must be less than or equal to 131072; got '131073'",
        ),
        (
            ({}, {"WSGATEWAY_INTEGRATION_TIMEOUT_MS": "29001"}),
            "WSGATEWAY_INTEGRATION_TIMEOUT_MS: must be less than or equal to 29000; got '29001'",
        ),
        # Settings that do not go together.
        (
            ({"management_host": "127.0.0.1"},),
            "--management-host: there is no management port; set management_port as well",
        ),
        (
            ({"port": "80", "management_port": "80"},),
            "--management-port: is the main port; choose another",
        ),
        (
            ({}, {"WSGATEWAY_TLS_KEY": "k.pem"}),
            "WSGATEWAY_TLS_KEY: there is no tls_certificate; set tls_certificate as well",
        ),
        (
            ({}, {}, "\ntls_certificate = 'c.pem'"),
            "gateway.toml:2: there is no tls_key; set tls_key as well",
        ),
        # The file itself.
        (({}, {}, "port = \n"), "gateway.toml:1: is not TOML: Invalid value; see https://toml.io"),
        (
            ({}, {}, "port = 1\nport = 2"),
            "gateway.toml:2: is not TOML: Cannot overwrite a value; see https://toml.io",
        ),
        (
            ({}, {}, "a = 1\nb = '''\n\n"),
            "gateway.toml:4: is not TOML: Expected \"'''\"; see https://toml.io",
        ),
        (
            ({}, {}, b"a = 1\n# caf\xe9"),
            "gateway.toml:2: is not UTF-8: unexpected end of data; save it as UTF-8",
        ),
    ],
)
def test_a_fault_names_its_place_as_the_user_wrote_it(sources: Any, fault: str) -> None:
    assert faults(*sources) == [fault]


def test_all_faults_of_all_sources_are_told_at_once() -> None:
    told = faults(
        {"port": "x", "host": "0.0.0.0"},
        {"WSGATEWAY_PROT": "1", "WSGATEWAY_LOG_LEVEL": "loud", "WSGATEWAY_TLS_KEY": "k.pem"},
        "regoin = 'x'\nidle_timeout_s = 0\n",
    )

    assert [fault.partition(": ")[0] for fault in told] == [
        "gateway.toml:1",
        "gateway.toml:2",
        "WSGATEWAY_PROT",
        "WSGATEWAY_LOG_LEVEL",
        "--port",
        "--host",
        "WSGATEWAY_TLS_KEY",
    ]


def test_what_is_wrong_but_overruled_is_no_fault() -> None:
    assert settings({"port": "1"}, {"WSGATEWAY_PORT": "x"}, "port = 'y'").port == 1


def test_a_file_that_is_not_there() -> None:
    assert load_settings({}, {}, Path("nowhere.toml"))[1][0].place == "nowhere.toml"


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    assert settings({}, {}, "\ufeffport = 1").port == 1


def test_what_is_at_fault_is_told_apart() -> None:
    """So that a port which could not be read is not replaced by another and found taken."""
    loaded, _ = load({"port": "x", "stage": "dev"})

    assert loaded.at_fault == {"port"}
    assert loaded.port == 8080
    assert loaded.stage == "dev"


def test_without_its_file_all_that_it_could_hold_is_at_fault() -> None:
    loaded, _ = load({"port": "1"}, {"WSGATEWAY_PATH": "app"}, "=")

    assert "host" in loaded.at_fault
    assert not {"port", "path"} & loaded.at_fault


def test_a_key_that_begins_like_another_has_its_own_line() -> None:
    assert faults({}, {}, "port-x = 1\nport = 'y'\n") == [
        "gateway.toml:1: there is no setting 'port-x'; did you mean port?",
        "gateway.toml:2: port must be a valid integer; got 'y'",
    ]


# Callbacks without authentication


_REMEDY = (
    "keep @connections on this machine with --management-port and --management-host 127.0.0.1, "
    "or accept it with --insecure-callbacks; docs/operating.md tells what each means"
)


@pytest.mark.parametrize(
    ("sources", "place", "host"),
    [
        (({"host": "0.0.0.0"},), "--host", "0.0.0.0"),
        (({"host": "::"},), "--host", "::"),
        (({"host": ""},), "--host", ""),
        (({"host": "gateway.example"},), "--host", "gateway.example"),
        (({}, {"WSGATEWAY_HOST": "10.0.0.1"}), "WSGATEWAY_HOST", "10.0.0.1"),
        (({}, {}, "\nhost = '10.0.0.1'"), "gateway.toml:2", "10.0.0.1"),
        (({"host": "0.0.0.0", "management_port": "1"},), "--host", "0.0.0.0"),
        (
            ({"host": "127.0.0.1", "management_port": "1", "management_host": "10.0.0.1"},),
            "--management-host",
            "10.0.0.1",
        ),
    ],
)
def test_callbacks_off_loopback_are_refused(sources: Any, place: str, host: str) -> None:
    where = host or "every address"
    [told] = faults(*sources)

    assert told == (
        f"{place}: on {where} anyone who reaches the port could post to connections and close "
        f"them, for @connections has no authentication; {_REMEDY}"
    )
    assert faults({**sources[0], "insecure_callbacks": True}, *sources[1:]) == []


@pytest.mark.parametrize(
    "flags",
    [
        {"host": "localhost"},
        {"host": "127.8.9.1"},
        {"host": "::1"},
        {"host": "0.0.0.0", "management_port": "1", "management_host": "127.0.0.1"},
    ],
)
def test_callbacks_on_loopback_are_served(flags: dict[str, object]) -> None:
    assert faults(flags) == []


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "localhost.example", "::ffff:10.0.0.1", "x"])
def test_what_is_not_surely_loopback_is_not(host: str) -> None:
    assert not is_loopback(host)


# Who the gateway is


def test_the_api_id_is_derived_from_the_name_alone() -> None:
    """The same on every node and after every restart."""
    assert derived_api_id("wsgateway") == "iyz9k4kkq4"
    assert derived_api_id("chat") == "g3uzues769"
    assert derived_api_id("Chat") != derived_api_id("chat")
    assert len(derived_api_id("")) == 10
