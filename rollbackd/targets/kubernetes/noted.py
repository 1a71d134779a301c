"""The keys of the orders that were carried out on an object, noted in an annotation of the object itself.

One patch makes the change and notes its key, so that the two cannot come apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

KEYS = "io.rollbackd/key"
"""The keys of the reverts that were made here, a JSON list, the newest last."""
KEEP_KEYS = 10


def spent(notes: Mapping[str, str]) -> list[str]:
    """The keys in an object's annotations, oldest first; what somebody else wrote there counts for nothing."""
    try:
        return msgspec.json.decode(notes.get(KEYS, "[]"), type=list[str])
    except (msgspec.MsgspecError, RecursionError):
        return []


def with_key(notes: Mapping[str, str], key: str) -> dict[str, str]:
    """The annotation that is to take the place of the one in `notes`."""
    keys = [*spent(notes), key][-KEEP_KEYS:]
    return {KEYS: msgspec.json.encode(keys).decode()}
