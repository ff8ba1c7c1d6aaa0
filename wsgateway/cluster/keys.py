"""The names of everything that a cluster keeps in Redis.

    {prefix}:{api id}:nodes                 set of the tags in use, each as six hexadecimal digits
    {prefix}:{api id}:{tag}:lease           hash: which incarnation of a node holds the tag
    {prefix}:{api id}:{tag}:fence           hash: the holder is given up; who recovers its entries
    {prefix}:{api id}:{tag}:entries         hash: one field per connection
    {prefix}:{api id}:{tag}:inbox           channel: commands for the node

The tag stands in braces, as a hash tag: all that belongs to one node is in one slot of a cluster
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Braces would move the hash tag, and spaces would make a key awkward to type.
_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """The names for one API.

    Attributes:
        prefix: What comes before every name, which is also what an ACL rule allows (`~prefix:*`).
        api_id: Whose they are.

    Raises:
        ValueError: The prefix holds characters that it must not.
    """

    prefix: str
    api_id: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError("a key prefix has 1 to 64 letters, digits or any of _.:/-")

    @property
    def nodes(self) -> str:
        """The set of tags."""
        return f"{self.prefix}:{self.api_id}:nodes"

    def lease(self, tag: bytes) -> str:
        """Return the key of a node's lease; it exists for as long as nobody has fenced the node."""
        return self._of(tag, "lease")

    def fence(self, tag: bytes) -> str:
        """Return the key of a tag's fence."""
        return self._of(tag, "fence")

    def entries(self, tag: bytes) -> str:
        """Return the key of a node's connections."""
        return self._of(tag, "entries")

    def inbox(self, tag: bytes) -> str:
        """Return the name of a node's channel."""
        return self._of(tag, "inbox")

    def _of(self, tag: bytes, what: str) -> str:
        return f"{self.prefix}:{self.api_id}:{{{tag.hex()}}}:{what}"
