"""How verdicts over time become a finding."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.model import Evidence, Verdict
from rollbackd.rollback.verification import Finding, Trial, Verification, in_words
from tests.unit.rollback.house import House

SHORT: dict[str, Verdict] = {"h": "healthy", "d": "degraded", ".": "insufficient"}


@pytest.mark.parametrize(
    ("verdicts", "finding", "at"),
    [
        ("hhhhhhhh", "helped", 3),
        ("...hhhhh", "helped", 6),
        ("dddddddd", "did not help", 3),
        ("ddhhhhhh", "helped", 5),
        ("hhdhhhhh", "helped", 6),
        ("hh.hhhhh", "helped", 6),
        ("hhddddhh", "did not help", 5),
        ("............", "could not be proven", 10),
        ("h.h.h.h.h.h.", "could not be proven", 10),
        ("..........d", "did not help", 10),
        ("hdhdhdhdhdhh", "could not be proven", 10),
        ("hdhdhdhdhddd", "did not help", 10),
        ("d.d.d.d.d.h.", "could not be proven", 10),
    ],
)
def test_a_verdict_counts_once_it_has_stood(verdicts: str, finding: Finding, at: int) -> None:
    """One look a second, to stand for three, within ten."""
    trial = Trial(1000.0, 3.0, 10.0)
    for second, short in enumerate(verdicts):
        found = trial.finding(1000.0 + second, SHORT[short])
        if found is not None:
            assert (found, second) == (finding, at)
            return
    raise AssertionError("no finding")


def test_without_a_time_to_stand_the_first_look_counts() -> None:
    assert Trial(0.0, 0.0, 10.0).finding(0.0, "healthy") == "helped"
    assert Trial(0.0, 0.0, 10.0).finding(0.0, "insufficient") is None


async def test_the_evidence_against_is_told(house: House) -> None:
    rollback = await house.planned()
    failing = Evidence(rule="error_ratio", signal="requests", verdict="degraded", summary="11 % of requests fail")
    seen = Verification(
        verdict="degraded",
        summary="two rules convict",
        evidence=(
            failing,
            msgspec.structs.replace(failing, rule="latency", summary="p99 is 2 s"),
            msgspec.structs.replace(failing, rule="probe", verdict="healthy", summary="answers"),
        ),
    )
    assert in_words("did not help", seen, rollback, 60).endswith("two rules convict; 11 % of requests fail; p99 is 2 s")
