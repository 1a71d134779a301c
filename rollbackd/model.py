"""The nouns of the house: Event and its seven kinds, and what is concluded from them. Frozen, no I/O.

Times are Unix seconds (float) unless a name says otherwise; durations are seconds. Everything here is a
msgspec Struct, so it turns into JSON and back without a line of code, and reading it is strict: an unknown
field, a wrong type or an impossible value is an error that names its place.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
MAX_COUNT = 1e15
"""A million billion: up to there counts are exact as floats, and no sum or square of them overflows."""
Count = Annotated[float, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""Checked by msgspec where events are read, and by the events themselves where code makes them."""
Phase: TypeAlias = Literal["started", "finished", "failed"]
AlertStatus: TypeAlias = Literal["firing", "resolved"]

LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The end of the calendar. A `t` beyond it is no moment but, most often, milliseconds."""

MAX_BACKWARDS_S = 600.0
"""How far an event's `t` may lie behind the newest one before it. Ten minutes: an alert carries the moment it
began, which Alertmanager's grouping may deliver minutes later."""
MAX_BACKFILL_S = 6 * 3600.0
"""The same for signals: a source that can read the past does so at its start, when others tell of now already. Six
hours: a history remembers no more."""

# -- events -------------------------------------------------------------------------------------------
# A replay makes some hundred thousand a second. So the kinds that come often ask first, and in as little code as can
# be, whether all is well; what is not well is looked for only where the answer is no.


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Something a source saw or a sender told about one service at moment `t`."""

    t: float
    service: Name

    def __post_init__(self) -> None:
        if not 0 <= self.t <= LAST_MOMENT:
            raise ValueError(f"`t` must be a moment in Unix seconds, {self.t} is not")


class DeploymentEvent(Event, frozen=True, kw_only=True, tag="deployment"):
    """A release is going (`started`), has gone (`finished`) or could not go (`failed`) onto the target."""

    version: Name
    previous: Name | None = None
    phase: Phase


class Requests(Event, frozen=True, kw_only=True, tag="requests"):
    """Requests and failures among them since the previous sample of the same (service, version)."""

    version: Name | None = None
    total: Count
    errors: Count

    def __post_init__(self) -> None:
        if 0 <= self.t <= LAST_MOMENT and 0 <= self.errors <= self.total <= MAX_COUNT:
            return
        super().__post_init__()
        if not self.errors <= self.total:
            raise ValueError("`errors` exceeds `total`")
        raise ValueError(f"`total` and `errors` must lie between 0 and {MAX_COUNT:g}")


class Latency(Event, frozen=True, kw_only=True, tag="latency"):
    """A cumulative histogram (`le` bounds in seconds, as text) of the requests since the previous sample."""

    version: Name | None = None
    buckets: dict[str, Count]

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds(self.buckets)
        counts = [*self.buckets.values()]
        if not (counts[0] >= 0 and all(map(operator.le, counts, counts[1:])) and counts[-1] <= MAX_COUNT):
            raise ValueError(_fault_of_counts(self.buckets))


def _fault_of_counts(buckets: dict[str, float]) -> str:
    last = 0.0
    for name, count in buckets.items():
        if not count >= last:
            return f"`buckets` are cumulative, but `{name}` holds fewer than the bound before it"
        last = count
    return f"`buckets` must hold counts between 0 and {MAX_COUNT:g}"


class Gauge(Event, frozen=True, kw_only=True, tag="gauge"):
    """One sample of a named level."""

    version: Name | None = None
    name: Name
    value: float

    def __post_init__(self) -> None:
        if 0 <= self.t <= LAST_MOMENT and -math.inf < self.value < math.inf:
            return
        super().__post_init__()
        raise ValueError("`value` must be finite")


class Probe(Event, frozen=True, kw_only=True, tag="probe"):
    """One black-box check: whether the service answered, and how long that took in seconds."""

    up: bool
    duration: Count

    def __post_init__(self) -> None:
        if 0 <= self.t <= LAST_MOMENT and 0 <= self.duration <= MAX_COUNT:
            return
        super().__post_init__()
        raise ValueError(f"`duration` must be seconds between 0 and {MAX_COUNT:g}")


class Log(Event, frozen=True, kw_only=True, tag="log"):
    """One line of the service's log, or `count` of them: those of one level that a source counted together, since no
    rule wants their words. Their `message` is then empty."""

    version: Name | None = None
    level: Name
    message: str
    count: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 1


class Alert(Event, frozen=True, kw_only=True, tag="alert"):
    """Somebody else's judgement. `t` is when the alert began (firing) or ended (resolved).

    `began` tells when it began where that lies further back than a `t` may, as after a silence or an outage: then `t`
    is when it was heard of. `instance` tells apart several alerts of one name, as of each of a service's pods: one of
    them ends that one alone. Empty, it is all of that name.
    """

    name: Name
    status: AlertStatus
    severity: Text
    began: float | None = None
    instance: Text = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.began is not None and not 0 <= self.began <= self.t:
            raise ValueError("`began` must be a moment in Unix seconds before `t`")

    @property
    def since(self) -> float:
        """When it began."""
        return self.t if self.began is None else self.began


AnyEvent: TypeAlias = DeploymentEvent | Requests | Latency | Gauge | Probe | Log | Alert


def max_backwards(event: AnyEvent) -> float:
    """How far the event may lie behind the newest one before it, in seconds."""
    return MAX_BACKWARDS_S if isinstance(event, DeploymentEvent | Alert) else MAX_BACKFILL_S


# -- bucket bounds ------------------------------------------------------------------------------------

_BOUND = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_KEPT_NAMES, _KEPT_LENGTH = 200, 2000
"""How many names, and of how many characters together, the bounds of one layout may have to be remembered."""


def bounds(buckets: Mapping[str, float]) -> tuple[float, ...]:
    """The bounds of buckets in seconds, rising, the last one infinite. Raises ValueError where their names say other.

    Those of one layout are worked out once, since a service names its buckets the same in every sample.
    """
    names = tuple(buckets)
    try:
        return _remembered(names)
    except ValueError:
        return _bounds(names)  # which says what is wrong, unless they were only too large to be remembered


@lru_cache(maxsize=256)
def _remembered(names: tuple[str, ...]) -> tuple[float, ...]:
    """The same for the same names, whoever asked before: the cache saves time and is no state.

    It takes less than a few megabytes whatever the names are: a call that raises leaves nothing in it.
    """
    if len(names) > _KEPT_NAMES or sum(map(len, names)) > _KEPT_LENGTH:
        raise ValueError("too large to be remembered")
    return _bounds(names)


def _bounds(names: tuple[str, ...]) -> tuple[float, ...]:
    found = [-math.inf]
    for name in names:
        bound = _bound(name)
        if not bound > found[-1]:
            raise ValueError(f"`buckets` must be in rising order of their bounds, `{name}` is not")
        found.append(bound)
    if found[-1] != math.inf:
        raise ValueError('`buckets` must end with "+Inf"')
    return tuple(found[1:])


def _bound(name: str) -> float:
    if name == "+Inf":
        return math.inf
    if not _BOUND.fullmatch(name) or math.isinf(float(name)):
        raise ValueError(f"`buckets` are named by their bounds in seconds or by +Inf, `{name[:50]}` is neither")
    return float(name)


# -- releases -----------------------------------------------------------------------------------------

Standing: TypeAlias = Literal["unknown", "baking", "good", "bad", "superseded"]
"""What is known of a release: `unknown` (it was there before us), `baking`, `good` (finished its bake, or was
proven by a rollback to it), `bad` (condemned), `superseded` (replaced before its bake ended)."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable artifact that can run: what a target has, or had, in place."""

    version: Name
    digest: str | None = None
    commit: str | None = None
    created_at: float | None = None


# -- conclusions --------------------------------------------------------------------------------------

Verdict: TypeAlias = Literal["healthy", "degraded", "insufficient"]
Action: TypeAlias = Literal["rollback", "hold", "escalate"]
GuardVerdict: TypeAlias = Literal["pass", "hold", "escalate"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule knows about one deployment at one moment.

    `strength` and `threshold` are in decades of evidence (log10 of an e-value, or of a rule's own measure made
    comparable): the rule convicts once strength reaches threshold. `interval` is a 95 % interval of `observed`.

    `worse` is where worse begins: the level of `observed` beyond which the rule gathers evidence. `onset_between` are
    the earliest and the latest moment at which the trouble may have begun. `harmed` counts the requests since then that
    failed, were slow or went missing beyond what is usual. `chart` is the signal around the deployment, oldest first,
    as at most 60 points (t, value) in `unit`.
    """

    rule: str
    signal: str
    verdict: Verdict
    summary: str
    unit: str = ""
    baseline: float | None = None
    observed: float | None = None
    interval: tuple[float, float] | None = None
    samples: float = 0.0
    strength: float = 0.0
    threshold: float = 0.0
    onset: float | None = None
    onset_between: tuple[float, float] | None = None
    worse: float | None = None
    harmed: float | None = None
    chart: tuple[tuple[float, float], ...] = ()


class GuardAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard said when asked whether acting is safe."""

    guard: str
    verdict: GuardVerdict
    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a deployment, and everything it rests on.

    `deployed_at` with service and version names the deployment. `considered` holds, in plain sentences, the other
    explanations that blame looked at and why they were set aside (or, for hold and escalate, were not).
    """

    t: float
    service: str
    version: str
    action: Action
    to: str | None
    rule: str
    reason: str
    deployed_at: float
    evidence: tuple[Evidence, ...] = ()
    considered: tuple[str, ...] = ()
    guards: tuple[GuardAnswer, ...] = ()


WatchState: TypeAlias = Literal["opened", "good", "superseded", "condemned", "failed", "verified", "unrecovered"]
"""`failed`: the deployment itself failed. `verified` and `unrecovered` end the watch of a rollback's own deployment."""


class WatchChange(msgspec.Struct, frozen=True, kw_only=True):
    """A watch opened or ended. Not a decision: nothing is to be done, but memory and people want to know.

    `evidence` is what each rule knew when it ended; empty when it opened.
    """

    t: float
    service: str
    version: str
    previous: str | None
    deployed_at: float
    state: WatchState
    reason: str
    is_rollback: bool = False
    evidence: tuple[Evidence, ...] = ()


Outcome: TypeAlias = Decision | WatchChange
"""What the engine returns: decisions to act upon, and changes of watches to remember."""


# -- names ---------------------------------------------------------------------------------------------


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~]+", "-", text).strip("-.")[:40] or "x"


def _readable_id(parts: tuple[str, ...], at: float, told_apart_by: tuple[str, ...]) -> str:
    """Parts and moment for the eye; the hash tells apart what slugging and whole seconds would make the same."""
    moment = datetime.fromtimestamp(int(min(at, LAST_MOMENT)), tz=UTC).strftime("%Y%m%dT%H%M%S")
    digest = hashlib.sha256("\0".join((*parts, repr(float(at)), *told_apart_by)).encode("utf-8", "surrogatepass"))
    return "-".join((*map(_slug, parts), moment, digest.hexdigest()[:8]))


def deployment_id(service: str, version: str, deployed_at: float) -> str:
    """The name of a deployment: readable, safe in a URL's path, and the same whenever it is asked for.

    For example `checkout-2.4.1-20251123T114408-5f0c9a1e`; the moment is in UTC.
    """
    return _readable_id((service, version), deployed_at, ())


def decision_id(decision: Decision) -> str:
    """The name of a decision, made the same way: `checkout-2.4.1-rollback-20251123T114431-0b7d52aa`."""
    about = (repr(float(decision.deployed_at)), decision.rule, decision.to or "")
    return _readable_id((decision.service, decision.version, decision.action), decision.t, about)


def rollback_key(service: str, version: str, deployed_at: float) -> str:
    """The name of the one rollback that can undo a deployment: `rollback-` and the deployment's id."""
    return f"rollback-{deployment_id(service, version, deployed_at)}"
