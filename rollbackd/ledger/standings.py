"""What a change of a watch makes of the release it was about: one table for every ledger."""

from __future__ import annotations

from collections.abc import Mapping

from rollbackd.model import Standing, WatchChange, WatchState

_STANDING: Mapping[WatchState, Standing] = {
    "opened": "baking",
    "good": "good",
    "verified": "good",
    "condemned": "bad",
    "failed": "bad",
    "superseded": "superseded",
}


def standing_after(change: WatchChange, before: Standing | None) -> Standing:
    """The standing of `change`'s release, where it was `before` (None: never heard of).

    A good release that is put back stays good while it is watched again; only a verdict can take that away. A release
    found in place at first sight (nothing before it is known) is neither new nor proven until its bake ends.
    """
    passing = change.state in ("opened", "superseded")
    put_back = change.is_rollback and before == "good" and passing
    found = change.previous is None and passing
    if put_back or found or change.state not in _STANDING:
        return before or "unknown"
    return _STANDING[change.state]
