"""The road `flux`: what applies the workload is suspended, and then the workload itself is reverted.

Flux does not undo it until a human resumes the Kustomization. It then applies what its source says: the bad release
again, unless that was changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.fields import Model
from rollbackd.kubernetes.api import NotThere, Stale
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.flux_objects import ATTEMPTS, Flux, FluxObject, Place, kept_by
from rollbackd.targets.kubernetes.noted import spent
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.revert import Reverter, Step, judge
from rollbackd.targets.kubernetes.rights import lacking
from rollbackd.targets.kubernetes.view import Look, View

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")

SUSPENDED = "io.rollbackd/suspended"
"""Which revert suspended an object, when and why: a JSON object (Note)."""
MANAGER = "kustomize-controller-rollbackd"
"""The field manager of what is put back.

kustomize-controller takes fields of managers whose name begins with its own for its own, so that what a later commit
leaves out goes away; those of any other manager would stay for ever (its field managers, in
internal/controller/kustomization_controller.go).
"""
QUIET_S = 30.0
"""How long the controller may take to come to the end of what it was applying when it was suspended."""
LOOK_EVERY_S = 0.25
NOT_AGAIN_S = 86400.0
"""So long after a suspension, the release that it undid is not undone once more: somebody has resumed it since."""


class FluxConfig(Model):
    """What an operator writes under `owners: {flux: ...}`: nothing, so far; that it is there is what counts."""


class Note(msgspec.Struct, frozen=True, kw_only=True, rename={"was": "from"}):
    """The annotation of ours on what we suspended: `at` in Unix seconds."""

    key: str
    was: str
    to: str
    at: float
    why: str = ""


def note_of(seen: FluxObject) -> Note | None:
    """Ours, where there is one; what somebody else wrote there counts for nothing."""
    try:
        return msgspec.json.decode(seen.metadata.annotations.get(SUSPENDED, ""), type=Note)
    except (msgspec.MsgspecError, RecursionError):
        return None


@dataclass(frozen=True)
class Hands:
    """What the roads over Flux work with."""

    view: View
    flux: Flux
    clock: Clock
    service: str

    async def place(self, kept: Keeper) -> Place:
        """Where the object is that applies the workload."""
        return kept_by(kept, await self.view.namespace())


class FluxRoad:
    """Orders are carried out on the workload, while what applies it is suspended."""

    def __init__(self, kept: Keeper, hands: Hands) -> None:
        self._kept, self._hands = kept, hands
        self._view, self._flux, self._clock = hands.view, hands.flux, hands.clock
        self._straight = Reverter(hands.view, hands.clock, hands.service, MANAGER)

    # -- whether it would work

    async def problems(self, look: Look, to: str) -> list[str]:
        if self._kept.tool == "flux_helm_release":
            return [self._helm]
        place = await self._hands.place(self._kept)
        found = await self._straight.problems(look, to)
        found += await lacking(self._view.api, place.namespace, [place.right("get"), place.right("patch")])
        if found:
            return found
        try:
            seen = await self._flux.read(place)
        except NotThere:
            return [f"there is no {place.what}, which the workload's labels name: take those away, or revert in git"]
        if seen.insisted and not seen.spec.suspend:
            found.append(
                f"{place.what} has `suspend` in its own manifest, so a suspension is undone: leave it out there"
            )
        return found

    @property
    def _helm(self) -> str:
        why = "Helm would go on believing in the bad release"
        return f"{self._kept.what} looks after it, and {why}: configure `owners.git`"

    # -- reverting

    async def carry_out(self, order: RevertOrder) -> None:
        await self.stop(order)
        place = await self._hands.place(self._kept)
        log.warning("flux_stays_suspended", **self._said(place, order), cure=f"correct git, then `{place.resume}`")

    async def stop(self, order: RevertOrder) -> None:
        """Suspend what applies the workload, and revert that."""
        if self._kept.tool == "flux_helm_release":
            raise Permanent(self._helm)
        place = await self._hands.place(self._kept)
        try:
            if judge(order, await self._view.look_to_revert(self._clock), going=False) is Step.SWITCH:
                await self._suspend(place, order)
                await self._quiet(place)
            await self._straight.carry_out(order)
        except Conflict:
            await self._let_go(order)
            raise

    async def _suspend(self, place: Place, order: RevertOrder) -> None:
        for _ in range(ATTEMPTS):
            seen = await self._flux.read(place)
            ours = note_of(seen)
            if seen.spec.suspend:
                if ours is None:
                    log.info("flux_suspended_already", **self._said(place, order))
                return
            self._refuse_a_repetition(place, order, ours)
            note = Note(key=order.key, was=order.expect, to=order.to, at=self._clock.now(), why=order.reason[:500])
            notes = {**seen.metadata.annotations, SUSPENDED: msgspec.json.encode(note).decode()}
            try:
                await self._flux.change(place, seen, notes, _suspended(True))
            except Stale:
                continue
            log.warning("flux_suspended", **self._said(place, order))
            return
        raise Temporary(f"{place.what} changes faster than it can be suspended")

    def _refuse_a_repetition(self, place: Place, order: RevertOrder, ours: Note | None) -> None:
        """Whoever resumed it after us wants what it applies, or found that git still says so: no tug of war."""
        if ours is None:
            return
        again = ours.was == order.expect and self._clock.now() - ours.at < NOT_AGAIN_S
        if ours.key == order.key or again:
            raise Conflict(
                f"somebody resumed {place.what}, suspended to undo {ours.was}: correct git, where that comes from"
            )

    async def _quiet(self, place: Place) -> None:
        """Return once its controller writes no more. Twice in a row, since it begins before it says so."""
        until = self._clock.monotonic() + QUIET_S
        calm = 0
        while calm < 2:
            seen = await self._flux.read(place)
            if not seen.spec.suspend:
                raise Conflict(f"somebody resumed {place.what} at once: is `suspend` in its manifest?")
            calm = 0 if seen.applying else calm + 1
            if calm < 2:
                if self._clock.monotonic() > until:
                    raise Temporary(f"{place.what} is suspended, but its controller is still applying")
                await self._clock.sleep(LOOK_EVERY_S)

    # -- letting go of what we suspended

    async def _let_go(self, order: RevertOrder) -> None:
        """Somebody else deployed before we reverted: things are left as they were found."""
        workload = await self._view.workload()
        if workload is None or order.key not in spent(workload.metadata.annotations):
            await self.resume(order)

    async def resume(self, order: RevertOrder) -> None:
        """Have it go on, where it is this order that suspended it."""
        place = await self._hands.place(self._kept)
        for _ in range(ATTEMPTS):
            try:
                seen = await self._flux.read(place)
                ours = note_of(seen)
                if ours is None or ours.key != order.key or not seen.spec.suspend:
                    return
                notes = {name: value for name, value in seen.metadata.annotations.items() if name != SUSPENDED}
                await self._flux.change(place, seen, notes, _suspended(False))
            except NotThere:
                return
            except Stale:
                continue
            log.info("flux_resumed", **self._said(place, order))
            return
        raise Temporary(f"{place.what} changes faster than it can be resumed")

    async def settled(self, _look: Look) -> bool:
        """Suspended, it has no say; resumed by somebody, it is the workload that tells."""
        return True

    async def close(self) -> None:
        await self._straight.close()

    def _said(self, place: Place, order: RevertOrder) -> dict[str, str]:
        return {"service": self._hands.service, "object": place.what, "version": order.expect, "key": order.key}


def _suspended(value: bool) -> dict[str, object]:
    return {"op": "add", "path": "/spec/suspend", "value": value}
