"""Releases before a revert, and as they are kept."""

from __future__ import annotations

from rollbackd.targets.base import Target
from rollbackd.targets.kept_releases import Seen
from tests.support.containers import Shop
from tests.unit.targets.making import version


async def deployed(shop: Shop, target: Target, *options: str, bad: tuple[str, ...] = (), run: bool = True) -> None:
    """v1 with these options was seen in place, and now v2 is there, with the options of `bad` or else the same."""
    shop.deploy("v1", *options, run=False)
    assert await version(target) == "v1"
    shop.deploy("v2", *(bad or options), run=run)
    assert await version(target) == "v2"


def kept_as(called: str, how: dict[str, object]) -> Seen:
    """A release as it is kept."""
    return Seen(
        image=f"sha256:{called}", digest=None, reference=called, called=called,
        commit=None, fingerprint="", created_at=None, how=how,
    )  # fmt: skip
