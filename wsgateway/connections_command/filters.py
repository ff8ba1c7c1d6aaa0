"""Which connections does an operator mean?"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgateway.connection_id import TAG_SIZE, owner_tag
from wsgateway.errors import Fault, OperatorFaults

if TYPE_CHECKING:
    from wsgateway.cluster.entries import Record

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a connection has to be; None asks for nothing.

    Attributes:
        stages: One of their names.
        network: Its address is in there.
        older_than_s: It was opened so long ago.
        user_agent: Part of what the client says of itself, in any case.
        node: The tag of its owner.
    """

    stages: frozenset[str] | None = None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    older_than_s: float | None = None
    user_agent: str | None = None
    node: bytes | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is asked for."""
        return self == Filter()

    def takes(self, record: Record, now_ms: int) -> bool:
        """Whether a connection is one of those."""
        entry = record.entry
        return (
            (self.stages is None or entry.key.stage in self.stages)
            and (self.node is None or owner_tag(entry.key.connection_id) == self.node)
            and (
                self.older_than_s is None
                or now_ms - entry.connected_at_ms >= self.older_than_s * 1000
            )
            and (
                self.user_agent is None
                or self.user_agent.casefold() in (entry.user_agent or "").casefold()
            )
            and (self.network is None or _is_in(entry.source_ip, self.network))
        )


def make_filter(
    *,
    stage: str | None = None,
    source_ip: str | None = None,
    older_than: str | None = None,
    user_agent: str | None = None,
    node: str | None = None,
) -> Filter:
    """Return what the flags ask for.

    Raises:
        OperatorFaults: They cannot be read; with all of them.
    """
    faults: list[Fault] = []
    network, age_s, tag = None, None, None
    if source_ip is not None:
        try:
            network = ipaddress.ip_network(source_ip, strict=False)
        except ValueError:
            remedy = "write 192.0.2.7, or 192.0.2.0/24"
            faults.append(Fault("--source-ip", f"{source_ip!r} is no address", remedy))
    if older_than is not None:
        if found := _DURATION.fullmatch(older_than):
            age_s = float(found[1]) * _UNITS_S[found[2]]
        else:
            remedy = "write 90s, 10m or 2h"
            faults.append(Fault("--older-than", f"{older_than!r} is no duration", remedy))
    if node is not None:
        try:
            tag = bytes.fromhex(node)
        except ValueError:
            tag = b""
        if len(tag) != TAG_SIZE:
            remedy = "write six hexadecimal digits, as `connections list` shows them"
            faults.append(Fault("--node", f"{node!r} is no node", remedy))
    if faults:
        raise OperatorFaults(faults)
    stages = None if stage is None else frozenset(stage.split(","))
    return Filter(stages, network, age_s, user_agent, tag)


def _is_in(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    # As a socket of IPv6 sees a client of IPv4.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip in network or (mapped is not None and mapped in network)
