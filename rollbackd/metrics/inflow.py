"""Turns the cumulative samples that others push, of many services at once, into Events. No I/O, no clock.

Of each series an intake asks once what it stands for:

    inflow.begin(received_at)
    slot = inflow.slot(labels)          # a Slot, or why the series is of no use
    slot.take(t, value)                 # every sample of it from then on; take_histogram, stale
    ...
    events = inflow.settled(now)        # every second
    dropped = inflow.take_dropped()     # what could not be used, to be told with the next delivery

and remembers the answer by whatever is cheapest to look up, such as the bytes of the labels, as long as `inflow.epoch`
and `inflow.services` stay the same. Series whose names are not in `inflow.wanted` need not even be asked about.

What the samples of one series grew by counts as of the moment they were sampled, and is told, added up by service,
version and second, once that moment has settled (`moments.SETTLE_S`). So an event holds whole scrapes, however many
requests they came in. Which metrics count is told by the presets' meanings: the first one that is present, service by
service. A series that is new to us gives a baseline only, unless its process is known already or says when it began.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import structlog

from rollbackd.metrics.distributions import BucketSlot, Classic, Distribution, HistogramSlot
from rollbackd.metrics.growth import FORGET_AFTER_S, base_name
from rollbackd.metrics.moments import Account, Receipt
from rollbackd.metrics.presets import GaugeRow, Meaning
from rollbackd.metrics.pushed import LIVE_S, REQUESTS, CounterSlot, Level, LevelSlot, Service, Slot, Target
from rollbackd.metrics.tally import bound_text
from rollbackd.metrics.uses import Use, Uses, level_purpose
from rollbackd.model import AnyEvent

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.metrics")

Reason: TypeAlias = Literal["unwanted", "unknown_service", "too_many_series"]
"""Why a series is of no use: nobody asked for it, it is nobody's, or no more are followed."""

Labels: TypeAlias = Mapping[str, str]
Key: TypeAlias = tuple[str, bytes]
"""A service's name, and what stands for the labels of one of its series."""

NAME = "__name__"
"""The label that holds a metric's name."""

TARGET_LABELS = frozenset(
    {"job", "instance", "namespace", "pod", "container", "host", "hostname", "node"}
    | {"service_instance_id", "k8s_pod_name", "host_name", "container_id"}
    | {"service.instance.id", "k8s.pod.name", "host.name", "container.id"}
)
"""Labels that tell processes apart, and not what one of them counts."""

REPLICA_LABELS = frozenset({"prometheus_replica", "__replica__"})
"""Labels by which alone the series of two Prometheus servers differ that look at the same targets."""

LOOK_AROUND_S = 60.0
"""How often it is looked which series are still there."""

MIN_ABSENT = 1000
"""So many series that are not there are remembered at least; more only up to as many as ever were there at once, so
that labels which come and go leave no hour's worth of them."""


class Finder(Protocol):
    """Whose a series is."""

    @property
    def generation(self) -> frozenset[str]:
        """The services there are; the same object as long as they are the same."""

    def service(self, labels: Labels) -> str | None:
        """The service that the labels speak of, if any."""

    def version(self, labels: Labels) -> str | None:
        """The version that they tell, if any."""


class Inflow:
    """The series that one intake follows, `max_series` at most; a series not heard for an hour is forgotten.

    `gauges` that are shared are used for the services in `shared` alone: those that the operator matched by labels.
    `ignored` labels do not tell series apart.
    """

    def __init__(
        self,
        finder: Finder,
        meanings: Sequence[Meaning],
        gauges: Sequence[GaugeRow],
        *,
        max_series: int,
        shared: Collection[str] = (),
        ignored: Collection[str] = REPLICA_LABELS,
    ) -> None:
        self.epoch = 0
        """Another number after series were forgotten: their slots are `gone`, and there may be room for others."""
        self._uses = Uses(meanings, gauges, shared)
        self.wanted = self._uses.wanted
        """The metric names worth asking about."""
        self.services = finder.generation
        """The services there are: another object after they changed, and with them whose a series is."""
        self._finder = finder
        self._max_series, self._ignored = max_series, frozenset(ignored)
        self._receipt = Receipt()
        self._slots: dict[Key, Slot] = {}
        self._services: dict[str, Service] = {}
        self._targets: dict[Key, Target] = {}
        self._parts: dict[Key, Classic] = {}
        self._levels: dict[tuple[Account, int], Level] = {}
        self._open: dict[Account, None] = {}
        self._looked_around = 0.0
        self._most = MIN_ABSENT

    def begin(self, now: float) -> None:
        """What follows was received at `now`."""
        self._receipt.now, self._receipt.newest = now, None
        if not self._receipt.since:
            self._receipt.since = now
        services = self._finder.generation
        if services is not self.services and services != self.services:
            self.services = services
            self._forget([key for key, slot in self._slots.items() if slot.service.name not in services])

    @property
    def newest(self) -> float | None:
        """The newest moment that a counter was sampled at since `begin`; None where nothing new of any came."""
        return self._receipt.newest

    def settled(self, now: float) -> list[AnyEvent]:
        """What became certain by `now`, in order of time."""
        events = [event for account in [*self._open] for event in account.told(now)]
        events.sort(key=lambda event: event.t)
        if abs(now - self._looked_around) >= LOOK_AROUND_S:
            self._looked_around = now
            self._look_around(now)
        return events

    def take_dropped(self) -> Counter[str]:
        """How many samples could not be used since this was last asked, by reason: `not_a_number`, `out_of_order`,
        `too_old`, `unexpected_type`, and `incomplete_histogram`, which counts moments of one histogram."""
        dropped, self._receipt.dropped = self._receipt.dropped, Counter()
        return dropped

    # -- series

    def slot(self, labels: Labels, start: float = 0.0) -> Slot | Reason:
        """Where the samples of a series go, NAME among its labels; or why it is of no use.

        `start` is since when it counts, for senders that may push for several processes under the same labels: counters
        of another start are another process's. 0 tells nothing.
        """
        name = labels.get(NAME, "")
        if name not in self.wanted:
            return "unwanted"
        found = self._finder.service(labels)
        if found is None:
            return "unknown_service"
        told = [item for item in labels.items() if item[0] not in self._ignored]
        key = (found, _digest([*told, _started(start)] if start else told))
        slot = self._slots.get(key)
        if slot is not None:
            return slot
        use = self._uses.of(found, name, labels)
        if use is None:
            return "unwanted"
        if start and use.row >= 0:  # what a former process has left behind would be added to the level of the new one
            return self.slot(labels)
        if len(self._slots) >= self._max_series:
            self._receipt.blind_until = self._receipt.now + FORGET_AFTER_S
            return "too_many_series"
        return self._joined(key, name, labels, use, start)

    def _joined(self, key: Key, name: str, labels: Labels, use: Use, start: float) -> Slot | Reason:
        service = self._service(key[0])
        account = self._account(service, self._finder.version(labels))
        target = self._target(service, base_name(name), labels, start)
        slot: Slot
        if use.row >= 0:
            level = self._level(service, account, use.row)
            slot = LevelSlot(
                service, account, target, use.offers, level, rate=self._uses.gauges[use.row].kind == "rate"
            )
        elif use.whole:
            histogram = Distribution(service, account, target, use.places, use.roles)
            slot = HistogramSlot(service, account, target, use.offers, histogram)
        elif use.bucket:
            bound = bound_text(labels.get("le", ""), use.scale)
            if bound is None:
                return "unwanted"
            classic = self._classic(labels, service, account, target, use)
            slot = BucketSlot(service, account, target, use.offers, classic, bound)
        else:
            slot = CounterSlot(service, account, target, use.offers, use.roles)
        slot.scale = use.scale
        self._slots[key] = slot
        self._offer(service, slot)
        return slot

    def _service(self, name: str) -> Service:
        if name not in self._services:
            self._services[name] = Service(name, self._best())
        return self._services[name]

    def _best(self) -> dict[str, int]:
        """What needs no presence to be used: the only meaning there is."""
        return {REQUESTS: 0} if len(self._uses.meanings) == 1 else {}

    def _account(self, service: Service, version: str | None) -> Account:
        found = service.accounts.get(version)
        if found is None:
            found = service.accounts[version] = Account(service.name, version, self._receipt, self._open)
        return found

    def _target(self, service: Service, metric: str, labels: Labels, start: float) -> Target:
        told = [("", metric), *(item for item in labels.items() if item[0] in TARGET_LABELS)]
        key = (service.name, _digest([*told, _started(start)] if start else told))
        if key not in self._targets:
            self._targets[key] = Target(self._receipt, self._receipt.now)
        return self._targets[key]

    def _classic(self, labels: Labels, service: Service, account: Account, target: Target, use: Use) -> Classic:
        ignored = {"le", *self._ignored}
        whole = (service.name, _digest(item for item in labels.items() if item[0] not in ignored))
        if whole not in self._parts:
            self._parts[whole] = Classic(service, account, target, use.places)
        return self._parts[whole]

    def _level(self, service: Service, account: Account, row: int) -> Level:
        if (account, row) not in self._levels:
            name = self._uses.gauges[row].name
            self._levels[account, row] = Level(service, account, name, level_purpose(name), row)
        return self._levels[account, row]

    def _offer(self, service: Service, slot: Slot) -> None:
        before = service.best.get(REQUESTS)
        service.offer(slot.offers)
        self._tell_choice(service, before)

    def _tell_choice(self, service: Service, before: int | None) -> None:
        rank = service.best.get(REQUESTS)
        if rank is not None and rank != before:
            meaning = self._uses.meanings[rank // 2]
            requests = meaning.requests.metric if meaning.requests else None
            log.info("preset_chosen", service=service.name, preset=meaning.preset, requests=requests)

    # -- what is there no more

    def _look_around(self, now: float) -> None:
        best: dict[Service, dict[str, int]] = {}
        absent: list[tuple[float, Key]] = []
        for key, slot in self._slots.items():
            silent = slot.silent(now)
            if silent > LIVE_S:
                absent.append((slot.heard, key))
                continue
            found = best.setdefault(slot.service, self._best())
            for purpose, rank in slot.offers:
                if rank < found.get(purpose, rank + 1):
                    found[purpose] = rank
        for service, present in best.items():
            before = service.best.get(REQUESTS)
            service.settle_for(present)
            self._tell_choice(service, before)
        absent.sort()
        self._most = max(self._most, len(self._slots) - len(absent))
        surplus = len(absent) - self._most
        gone = [key for n, (heard, key) in enumerate(absent) if n < surplus or now - heard > FORGET_AFTER_S]
        if gone:
            self._forget(gone)

    def _forget(self, keys: Sequence[Key]) -> None:
        self.epoch += 1
        for key in keys:
            slot = self._slots.pop(key)
            slot.gone = True
            slot.leave()
        slots = self._slots.values()
        targets, services = {slot.target for slot in slots}, {slot.service for slot in slots}
        accounts = {slot.account for slot in slots} | self._open.keys()
        parts = {slot.histogram for slot in slots if isinstance(slot, BucketSlot)}
        self._targets = {key: one for key, one in self._targets.items() if one in targets}
        self._services = {name: one for name, one in self._services.items() if one in services}
        self._parts = {key: one for key, one in self._parts.items() if one in parts}
        self._levels = {key: one for key, one in self._levels.items() if key[0] in accounts}
        for service in self._services.values():
            service.accounts = {version: one for version, one in service.accounts.items() if one in accounts}


def _started(start: float) -> tuple[str, str]:
    """A moment in the place of a label."""
    return "", repr(start)


def _digest(labels: Iterable[tuple[str, str]]) -> bytes:
    """Sixteen bytes that stand for labels in any order, in the place of some hundred that would be kept."""
    return hashlib.blake2b(repr(sorted(labels)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
