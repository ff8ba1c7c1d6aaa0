"""Which stage and which connection a path means."""

from __future__ import annotations

import pytest

from wsgateway.api.endpoints import connection_of, split_target


@pytest.mark.parametrize(
    ("target", "stage", "rest"),
    [
        ("/dev", "dev", ""),
        ("/dev/", "dev", ""),
        ("/dev?room=a/b", "dev", ""),
        ("/dev/?room=a", "dev", ""),
        ("/d%65v", "dev", ""),
        ("/dev/@connections/AQIDEBESExQCFRY=", "dev", "@connections/AQIDEBESExQCFRY="),
        ("/dev/%40connections/AQID%3D?x", "dev", "%40connections/AQID%3D"),
        ("/dev//", "dev", "/"),
        ("/dev/a/b", "dev", "a/b"),
        ("/dev%2Fx", "dev/x", ""),
        ("/", "", ""),
        ("", "", ""),
        ("//dev", "", "dev"),
        ("/%ff", "\ufffd", ""),
    ],
)
def test_a_target_is_a_stage_and_what_follows_it(target: str, stage: str, rest: str) -> None:
    assert split_target(target) == (stage, rest)


@pytest.mark.parametrize(
    "path",
    [
        "@connections/AQIDEBESExQCFRY=",
        "@connections/AQIDEBESExQCFRY%3D",
        "@connections/AQIDEBESExQCFRY%3d",
        "%40connections/AQIDEBESExQCFRY=",
        "%40connections/AQIDEBESExQCFRY%3D",
        "%40connections/%41QIDEBESExQCFRY%3D",
    ],
)
def test_at_and_equals_arrive_raw_or_percent_encoded(path: str) -> None:
    assert connection_of(path) == "AQIDEBESExQCFRY="


@pytest.mark.parametrize(
    ("path", "connection_id"),
    [
        ("@connections/x", "x"),
        ("@connections/a+b", "a+b"),
        ("@connections/a%2Fb", "a/b"),
        ("@connections/a%3D%3D", "a=="),
        ("@connections/%253D", "%3D"),
    ],
)
def test_what_stands_in_the_place_of_an_id_is_decoded_once(path: str, connection_id: str) -> None:
    assert connection_of(path) == connection_id


@pytest.mark.parametrize(
    "path",
    [
        "",
        "@connections",
        "@connections/",
        "%40connections/",
        "@connections//",
        "@connections/AQIDEBESExQCFRY=/",
        "@connections/AQIDEBESExQCFRY=/x",
        "@Connections/AQIDEBESExQCFRY=",
        "%2540connections/AQIDEBESExQCFRY=",
        "connections/AQIDEBESExQCFRY=",
        "prod/@connections/AQIDEBESExQCFRY=",
    ],
)
def test_other_paths_name_no_connection(path: str) -> None:
    assert connection_of(path) is None
