"""Which releases a service has had, how they stand, and which one a rollback may go back to."""

from __future__ import annotations

import msgspec

from rollbackd.model import Standing

MAX_RELEASES = 50
"""Releases remembered of a service; the oldest that are neither current nor last known good go first."""


class ReleaseRecord(msgspec.Struct):
    """One release: when first seen, how it stands and since when."""

    version: str
    first_seen: float
    standing: Standing
    changed_at: float
    good_at: float | None = None


class Releases(msgspec.Struct):
    """All remembered releases of one service, in order of first sight, and the one in place."""

    known: dict[str, ReleaseRecord] = {}
    current: str | None = None

    def sight(self, version: str, at: float, standing: Standing) -> ReleaseRecord:
        """Remember a release; an earlier memory of it stays."""
        found = self.known.get(version)
        if found is None:
            found = self.known[version] = ReleaseRecord(version, at, standing, at)
            self._forget()
        return found

    def stand(self, version: str, standing: Standing, at: float) -> None:
        """Change how a release stands."""
        record = self.sight(version, at, standing)
        record.standing, record.changed_at = standing, at
        if standing == "good":
            record.good_at = at

    def recall(self, version: str, standing: Standing, first_seen: float, changed_at: float) -> None:
        """Take over what somebody else remembers of a release."""
        record = self.sight(version, first_seen, standing)
        record.standing, record.changed_at = standing, changed_at
        record.good_at = changed_at if standing == "good" else None

    def last_known_good(self, other_than: str) -> ReleaseRecord | None:
        """The release to go back to: the newest that finished its bake good; else one that was there before us.

        Never one that was condemned, nor one that was replaced before its bake ended. "Newest" is by when a release was
        last found good.
        """
        candidates = [r for r in self.known.values() if r.version != other_than]
        good = [r for r in candidates if r.standing == "good"]
        if good:
            return max(good, key=lambda r: (r.good_at or 0.0, r.first_seen))
        before_us = [r for r in candidates if r.standing == "unknown"]
        return max(before_us, key=lambda r: r.first_seen, default=None)

    def _forget(self) -> None:
        best = self.last_known_good("")
        for version in list(self.known)[: max(0, len(self.known) - MAX_RELEASES)]:
            if version != self.current and (best is None or version != best.version):
                del self.known[version]
