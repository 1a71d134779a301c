"""How long trouble must last before it counts: services have spells of it that are nobody's fault.

A cache expires, a neighbour sends a burst, a disk is slow for a minute. Such spells are the shorter the larger they
are, and no test of independent trials can know of them. So a conviction also takes time: trouble as large as
`EVERYDAY` must outlast a warm-up, smaller trouble the longer the smaller it is (which is also how the information in
noisy data grows), and trouble of a size that the service's own history shows must outlast the longest stretch of it
there.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable

import msgspec

LONGEST_WARMUPS = 12.0
"""Nothing in a history makes trouble have to last longer than so many warm-ups."""
OUTLAST = 1.5
"""How many times the longest stretch in the history trouble of its size has to last."""
NEAR = 0.8
"""Trouble in the history counts from this power of the size in question on: of ninefold trouble, sixfold counts."""
OFTEN, NEAR_OFTEN = 3, 0.55
"""Where so many stretches outlasted a warm-up, spells belong to the service, and a larger one is no news: then this
power."""
LATE = 2.0
"""Trouble that did not begin with the deployment has to last so many times as long: spells begin at any moment of a
bake, and most faults with the deployment, so half the chance of a mistake is given to either."""
LATE_LEAST, LATE_MOST = 1.4, 1.8
"""The same for the least and the most that any trouble has to last."""
WITH_DEPLOYMENT_WARMUPS = 2.0
"""Trouble that began within so many warm-ups began with the deployment."""
MOST_OF_IT = 0.25
"""Trouble is taken for as large as it is but for this share of its time, in which it may be smaller."""
PIECE_WARMUPS = 0.25
"""Trouble is measured in pieces of so many warm-ups at least."""
MAX_STRETCHES = 12
"""Stretches remembered of a history: the longest of each size."""


class Scale(msgspec.Struct, frozen=True):
    """What is everyday for a kind of trouble: at `size` times the usual it passes within a warm-up; `power` is how
    much longer smaller trouble lasts: (size / its own)^power warm-ups, but `least` and at the `most` so many."""

    size: float
    power: float
    least: float
    most: float

    def warmups(self, size: float, *, late: bool) -> float:
        """Warm-ups that trouble of `size` times the usual must last; `late` where it did not begin with the
        deployment."""
        law = math.pow(self.size / max(size, 1e-9), self.power)
        if not late:
            return min(max(law, self.least), self.most)
        return min(max(LATE * law, LATE_LEAST * self.least), LATE_MOST * self.most)


ERRORS = Scale(size=6.0, power=2.0, least=1.0, most=6.0)
LATENCY = Scale(size=1.75, power=6.0, least=1.1, most=5.5)


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of trouble: how long, in seconds, and how many times the usual."""

    seconds: float
    size: float


class Spells(msgspec.Struct, frozen=True):
    """What a history shows of trouble: the longest stretches, longest first, and how many outlasted a warm-up."""

    longest: tuple[Stretch, ...] = ()
    long: int = 0

    def and_(self, other: Spells) -> Spells:
        """Both together: of one service, seen in two ways."""
        return Spells(tuple(_longest([*self.longest, *other.longest])), max(self.long, other.long))

    def outlast(self, size: float, warmup: float) -> float:
        """Seconds that trouble of `size` times the usual must last for the history not to explain it."""
        near = math.pow(max(size, 1.0), NEAR_OFTEN if self.long >= OFTEN else NEAR)
        own = max((stretch.seconds for stretch in self.longest if stretch.size >= near), default=0.0)
        return min(OUTLAST * own, warmup * LONGEST_WARMUPS)


def spells(
    samples: Iterable[tuple[float, float, float]], null: float, size: Callable[[float], float], warmup: float
) -> Spells:
    """The stretches of trouble in samples `(seconds, failures, total)` in order of time: where more than the share
    `null` failed, a single sample in between aside. `size` tells how many times the usual a share is. Of those that
    are no longer and no larger than another only the other is kept.
    """
    found: list[Stretch] = []
    seconds = failures = total = pause = 0.0
    for took, failed, of in [*samples, (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)]:
        if failed > null * of and failed >= 2:
            seconds, failures, total, pause = seconds + pause + took, failures + failed, total + of, 0.0
        elif seconds > 0 and pause == 0:
            pause = took or 1e-9
        elif seconds > 0:
            found.append(Stretch(seconds, size(failures / total)))
            seconds = failures = total = pause = 0.0
    return Spells(tuple(_longest(found)), sum(stretch.seconds > warmup for stretch in found))


def _longest(found: list[Stretch]) -> list[Stretch]:
    kept: list[Stretch] = []
    for one in sorted(found, key=lambda stretch: (-stretch.seconds, -stretch.size)):
        if not kept or one.size > kept[-1].size:
            kept.append(one)
    return kept[:MAX_STRETCHES]


class Piece(msgspec.Struct, frozen=True):
    """A piece of trouble: seconds, how many times the usual it is, and the same as the history's stretches are
    measured."""

    seconds: float
    size: float
    like: float


def has_lasted(pieces: Iterable[Piece], scale: Scale, warmup: float, seen: Spells, *, began: float = 0.0) -> bool:
    """Whether trouble, in pieces from the newest back to its onset, has lasted as long as trouble of its size must.

    `began` is its onset in seconds after the deployment.

    Going back, each length of time is judged by the size that the trouble had for most of it, so that a short peak on
    top of a mild spell passes for neither a long peak nor a short spell.
    """
    late = began > WITH_DEPLOYMENT_WARMUPS * warmup
    lasted = 0.0
    sizes: list[float] = []
    likes: list[float] = []
    for piece in pieces:
        lasted += piece.seconds
        bisect.insort(sizes, piece.size)
        bisect.insort(likes, piece.like)
        place = int(MOST_OF_IT * len(sizes))
        if lasted >= max(warmup * scale.warmups(sizes[place], late=late), seen.outlast(likes[place], warmup)) - 0.1:
            return True
    return False
