"""The names of what is kept in Redis."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from wsgateway.cluster.keys import Keys

KEYS = Keys("wsgateway", "abcde12345")


def test_names() -> None:
    tag = b"\x00\xab\xff"

    assert KEYS.nodes == "wsgateway:abcde12345:nodes"
    assert KEYS.lease(tag) == "wsgateway:abcde12345:{00abff}:lease"
    assert KEYS.fence(tag) == "wsgateway:abcde12345:{00abff}:fence"
    assert KEYS.entries(tag) == "wsgateway:abcde12345:{00abff}:entries"
    assert KEYS.inbox(tag) == "wsgateway:abcde12345:{00abff}:inbox"


def test_all_of_a_node_is_in_one_slot() -> None:
    tag = b"\x01\x02\x03"
    names = [KEYS.lease(tag), KEYS.fence(tag), KEYS.entries(tag), KEYS.inbox(tag)]

    assert len({key_slot(name.encode()) for name in names}) == 1


@pytest.mark.parametrize("prefix", ["", "a{b", "a}", "a b", "x" * 65, "é"])
def test_a_prefix_that_would_move_the_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="key prefix"):
        Keys(prefix, "abcde12345")
