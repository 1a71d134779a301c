"""A real Prometheus that holds a past of our making: its blocks are written by promtool from an OpenMetrics text."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.live import ReservedPort
from tests.support.running import answering, running

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass
class Shape:
    """How one release serves: requests a second, the share of them that fails, and how long most take in seconds."""

    rate: float = 20.0
    failing: float = 0.001
    slowness: float = 0.05


@dataclass
class Past:
    """Samples by metric family and series, in order of time."""

    families: dict[str, str] = field(default_factory=dict)
    series: defaultdict[str, defaultdict[str, list[tuple[float, float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def sample(self, family: str, kind: str, name: str, labels: Mapping[str, str], t: float, value: float) -> None:
        self.families[family] = kind
        text = ",".join(f'{label}="{said}"' for label, said in labels.items())
        self.series[family][f"{name}{{{text}}}"].append((t, value))

    def serve(
        self, service: str, start: float, end: float, release: Callable[[float], tuple[str, Shape]], step: float = 15.0
    ) -> None:
        """A service whose one process counts requests from `start` to `end`; a new release begins at 0."""
        running, counted, t = "", defaultdict[str, float](float), start
        while t <= end:
            version, shape = release(t)
            if version != running:
                running, counted = version, defaultdict(float)
            number = shape.rate * step * (1 + 0.1 * ((t / step) % 3 - 1))  # no two intervals are quite the same
            failed = round(number * shape.failing * (1 + ((t / step) % 2 - 0.5)))
            labels = {"job": service, "instance": f"{service}:8080", "version": version}
            counted["500"] += failed
            counted["200"] += round(number) - failed
            for code in ("200", "500"):
                self.sample(
                    "http_requests", "counter", "http_requests_total", {**labels, "code": code}, t, counted[code]
                )
            total = counted["200"] + counted["500"]
            for bound in BOUNDS:
                share = min(1.0, (bound / shape.slowness) ** 2 / 2)
                counted[f"le{bound}"] += round(round(number) * share)
                self._bucket(labels, str(bound), t, counted[f"le{bound}"])
            self._bucket(labels, "+Inf", t, total)
            t += step

    def _bucket(self, labels: Mapping[str, str], bound: str, t: float, value: float) -> None:
        family = "http_request_duration_seconds"
        self.sample(family, "histogram", f"{family}_bucket", {**labels, "le": bound}, t, value)

    def text(self) -> str:
        lines = []
        for family, kind in self.families.items():
            lines.append(f"# TYPE {family} {kind}")
            for name, samples in self.series[family].items():
                lines += [f"{name} {value:g} {t:.3f}" for t, value in samples]
        return "\n".join([*lines, "# EOF", ""])


@asynccontextmanager
async def real_prometheus(folder: Path, past: Past) -> AsyncIterator[str]:
    """Run one that remembers this past until the block ends; gives its address."""
    (folder / "past.om").write_text(past.text(), encoding="utf-8")
    (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    made = await asyncio.create_subprocess_exec(
        "promtool",
        *("tsdb", "create-blocks-from", "openmetrics", str(folder / "past.om"), str(folder / "data")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await made.communicate()
    assert made.returncode == 0, said.decode()
    arguments = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}")
    async with running("prometheus", *arguments) as (url, _):
        yield url


class Scraping:
    """A real Prometheus that scrapes one service as a job of its name, and can be killed and started again."""

    def __init__(self, folder: Path, job: str, target: str, interval: str = "250ms") -> None:
        self._folder, self._port = folder, ReservedPort()
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{self._port.number}"
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\n"
            f"scrape_configs: [{{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )

    async def start(self) -> None:
        """Start it; returns once it answers."""
        self._process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port.number}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await answering(self.url)

    async def kill(self) -> None:
        """End it at once, as a lack of memory would."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.kill()
