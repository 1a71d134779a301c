"""What all intakes check: that an event they built is one that can be read back."""

from __future__ import annotations

import pytest

from rollbackd.intake.base import Rejected
from rollbackd.intake.reading import check
from rollbackd.model import Alert, AnyEvent, DeploymentEvent


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Alert(t=1.0, service="shop", name="", status="firing", severity=""), r"\$.name"),
        (Alert(t=1.0, service="shop", name="a", status="firing", severity="x" * 501), r"\$.severity"),
        (DeploymentEvent(t=1.0, service="x" * 501, version="v1", phase="finished"), r"\$.service"),
        (DeploymentEvent(t=1.0, service="shop", version="\ud800", phase="finished"), "surrogates"),
    ],
)
def test_an_event_beyond_its_bounds_is_the_senders_fault(event: AnyEvent, said: str) -> None:
    with pytest.raises(Rejected, match=said) as caught:
        check(event)
    assert caught.value.status == 400


def test_an_event_within_them_passes() -> None:
    check(Alert(t=1.0, service="shop", name="a" * 500, status="firing", severity=""))
