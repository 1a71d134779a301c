"""The history of a Helm release in terms of one workload: which revision a release of the target was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rollbackd.aiokit import Clock
from rollbackd.errors import Permanent, Temporary
from rollbackd.targets.kubernetes.helm_manifest import Held, Subject, held
from rollbackd.targets.kubernetes.helm_match import Template, images, match
from rollbackd.targets.kubernetes.helm_program import Entry, Helm
from rollbackd.targets.kubernetes.view import Look, View

LOOK_BACK = 30
"""How many revisions are looked at. Kubernetes keeps ten of a workload, unless somebody raised that."""
BUSY_S = 900.0
"""For how long a revision may be pending before we take it that its helm died: longer than people let helm wait."""
NAMED = 10
"""How many objects are named in the log."""


@dataclass(frozen=True)
class Plan:
    """What a rollback is about: the newest revision, the one to go back to, and all that this changes and deletes."""

    newest: int
    goal: int
    changes: tuple[str, ...]
    deletes: tuple[str, ...]

    @property
    def told(self) -> dict[str, str | int]:
        """It as fields of the log."""
        also = f"helm rollback puts the whole release back: {_listed(self.changes)}"
        gone = f", and deletes {_listed(self.deletes)}" if self.deletes else ""
        return {"revision": self.goal, "from_revision": self.newest, "effect": also + gone}


class History:
    """Reads one release; changes nothing. What a revision holds never changes, so it is read once."""

    def __init__(self, helm: Helm, view: View, clock: Clock) -> None:
        self._helm, self._view, self._clock = helm, view, clock
        self._held: dict[tuple[int, datetime | None], Held] = {}

    async def plan(self, look: Look, to: str) -> Plan:
        """How to get to release `to`.

        Raises Permanent where there is no way that is certain, Temporary while helm is at work.
        """
        entries = await self._helm.history()
        newest = entries[0]
        self._free(newest)
        wanted = look.find(to)
        if wanted is None:
            raise Permanent(look.gone(to))
        self._forget(entries)
        older = [one for one in entries[1:] if one.was_good][:LOOK_BACK]
        await self._is_helms(look, [newest, *(older[:1] if newest.status == "failed" else ())])
        candidates = [await self._of(one) for one in older]
        found = match(wanted.template, candidates)
        if found is None:
            raise Permanent(await self._unknown(to, wanted.template, older))
        goal = older[next(at for at, one in enumerate(candidates) if one is found)]
        now = await self._of(newest)
        plan = Plan(newest.revision, goal.revision, *_difference(now, found))
        lost = [one for one in plan.deletes if one in now.lasting]
        if lost:
            raise Permanent(
                f"helm rollback to revision {plan.goal} would delete {_listed(lost)}, which came later and holds what "
                "cannot be brought back: roll back by hand, or annotate it with `helm.sh/resource-policy: keep`"
            )
        return plan

    async def holds(self, entries: Sequence[Entry], goal: int) -> bool:
        """Whether the newest of these revisions holds the very same as revision `goal`, as after a rollback to that."""
        then = next((one for one in entries if one.revision == goal), None)
        return then is not None and (await self._of(entries[0])).digest == (await self._of(then)).digest

    def _free(self, newest: Entry) -> None:
        """Raises Temporary while somebody's helm is at work, and Permanent where it died or the release is no more."""
        name, state = self._helm.release, newest.status
        if newest.pending and newest.age(self._clock.now()) < BUSY_S:
            raise Temporary(f"somebody's helm is at work on {name}: its revision {newest.revision} is `{state}`")
        if newest.pending:
            raise Permanent(
                f"Helm release {name} has been `{state}` for more than {BUSY_S / 60:g} min: helm seems to have died "
                f"over revision {newest.revision}; put it in order by `helm rollback {name} REVISION`"
            )
        if newest.status not in ("deployed", "failed", "superseded"):
            raise Permanent(
                f"revision {newest.revision} of Helm release {name} is `{state[:40]}`: nothing to roll back"
            )

    async def _is_helms(self, look: Look, entries: Sequence[Entry]) -> None:
        """Raises Permanent where none of these revisions put in place what is there."""
        running = images(look.current.template)
        found = [await self._of(one) for one in entries]
        if not any(images(one.template) == running for one in found):
            raise Permanent(
                f"{look.version} was put in place beside Helm: the newest revision of {self._helm.release}, "
                f"{entries[0].revision}, holds other images; deploy by helm, or set `if_managed: revert`"
            )

    async def _unknown(self, to: str, wanted: Template, older: Iterable[Entry]) -> str:
        name = self._helm.release
        alike = [one for one in older if images((await self._of(one)).template) == images(wanted)]
        if not alike:
            return (
                f"no good revision of Helm release {name} holds the images of {to}: keep more of them by "
                "`helm upgrade --history-max`, or set `if_managed: revert`"
            )
        numbers = ", ".join(str(one.revision) for one in alike[:10])
        return f"which of Helm's revisions {numbers} of {name} is {to} cannot be told: they have the same images"

    async def _of(self, entry: Entry) -> Held:
        known = (entry.revision, entry.updated)
        if known not in self._held:
            manifest = await self._helm.manifest(entry.revision)
            namespace = await self._view.namespace()
            subject = Subject(self._view.kind.name, self._view.name, namespace, self._helm.namespace)
            self._held[known] = await asyncio.to_thread(held, manifest, entry.revision, subject)
        return self._held[known]

    def _forget(self, entries: Iterable[Entry]) -> None:
        """What Helm keeps no longer; a release that is installed anew begins with the old numbers."""
        kept = {(one.revision, one.updated) for one in entries}
        self._held = {known: one for known, one in self._held.items() if known in kept}


def _difference(now: Held, then: Held) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The objects that going from `now` to `then` makes or changes, and those that it deletes."""
    changed = [name for name, text in then.objects.items() if now.objects.get(name) != text]
    return tuple(changed), tuple(name for name in now.objects if name not in then.objects)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name[:100] for name in names[:NAMED]) + more
