"""The table of standings, beyond what the contract suite walks through."""

from __future__ import annotations

from typing import get_args

import pytest

from rollbackd.ledger.standings import standing_after
from rollbackd.model import WatchState
from tests.contract.ledgers import change


@pytest.mark.parametrize("state", get_args(WatchState))
def test_only_a_verdict_takes_good_from_a_release_put_back(state: WatchState) -> None:
    after = standing_after(change("1.0", state, is_rollback=True), "good")
    assert after == ("bad" if state in ("condemned", "failed") else "good")


@pytest.mark.parametrize("state", get_args(WatchState))
def test_every_state_gives_a_new_release_a_standing(state: WatchState) -> None:
    assert standing_after(change("1.0", state), None) != ("unknown" if state != "unrecovered" else "baking")
