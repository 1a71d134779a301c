"""Source `kubernetes`: what the kubelets say of the pods of the release in place, as alerts and a gauge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.errors import RollbackdError
from rollbackd.fields import Duration, Ratio
from rollbackd.kubernetes.access import Credentials
from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.kinds import out_of_time
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.subject import NotTakenUp, Subject, WorkloadOptions
from rollbackd.kubernetes.trouble import OUT_OF_TIME, TROUBLES, troubles
from rollbackd.model import Alert, AlertStatus, Gauge
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.schedule import Schedule

MOST_PODS = 250
"""So many pods of a release are looked at; the share that is in trouble is told from them."""


class KubernetesPodsConfig(WorkloadOptions):
    """What an operator writes under `kubernetes:`. Text alone is the name of a Deployment."""

    interval: Duration = Field(default=10.0, ge=1)
    """How often to look."""
    share: Ratio = 0.25
    """Which share of the release's pods must be in one trouble for it to be critical; below that it is a warning."""
    not_ready_after: Duration = 120.0
    """How long a pod may run without being ready; a service that takes longer to start needs more."""


class KubernetesPods:
    """The pods of the newest revision of one workload. What becomes of older ones is not this release's doing."""

    def __init__(self, config: KubernetesPodsConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._commons = context.commons
        kind, name = config.workload
        self._workload = f"{kind.name} {name}"
        self._told: dict[str, str | None] = {}

    async def run(self, sink: Sink) -> None:
        self._told = {}
        api = Api(Credentials(self._config, self._clock), self._config.timeout)
        subject = Subject(api, self._config)
        schedule = Schedule(self._clock, self._config.interval, self._commons)
        try:
            while True:
                await schedule.tick()
                try:
                    pods, late = await self._look(subject)
                except NotTakenUp:
                    continue  # a rollout begins: whose pods are to be looked at is known in a moment
                except RollbackdError as error:
                    sink.down(str(error))
                    continue
                sink.up()
                await self._tell(sink, pods, late=late)
        finally:
            await api.close()

    async def _look(self, subject: Subject) -> tuple[Sequence[Pod], bool]:
        """The pods of the release in place, and whether its rollout has run out of time."""
        workload = await subject.workload()
        if workload is None:
            return (), False
        current = await subject.current(workload, await subject.revisions(workload))
        return await subject.sample(workload, current, MOST_PODS), out_of_time(workload)

    async def _tell(self, sink: Sink, pods: Sequence[Pod], *, late: bool) -> None:
        """An alert for each trouble that begins, changes its severity or ends; the first look says how all stand.

        And at each look how many pods are in trouble: that none is, is something seen, too.
        """
        now = self._clock.now()
        found = [troubles(pod, now, self._config.not_ready_after) for pod in pods]
        counts = Counter(trouble for one in found for trouble in one)
        enough = self._config.share * len(pods)
        severities: dict[str, str | None] = {
            name: None if not counts[name] else "critical" if counts[name] >= enough else "warning" for name in TROUBLES
        }
        severities[OUT_OF_TIME] = "critical" if late else None
        for trouble, severity in severities.items():
            if trouble not in self._told or self._told[trouble] != severity:
                status: AlertStatus = "resolved" if severity is None else "firing"
                words = severity or self._told.get(trouble) or "critical"
                await sink.emit(
                    Alert(
                        t=now,
                        service=self._service,
                        name=trouble,
                        status=status,
                        severity=words,
                        instance=self._workload,
                    )
                )
                self._told[trouble] = severity
        if pods:
            many = float(sum(map(bool, found)))
            gauge = f"pods in trouble of {self._workload}"
            await sink.emit(Gauge(t=now, service=self._service, name=gauge, value=many))


def build(config: KubernetesPodsConfig, context: SourceContext) -> Source:
    """Make the source; nothing is asked before it runs."""
    return KubernetesPods(config, context)


ADAPTER = Adapter(config=KubernetesPodsConfig, build=build, shorthand="deployment")
