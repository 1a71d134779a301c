"""What all tests share: real programs are needed or skipped, in CI nothing is skipped, and there is one engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.support import built
from tests.support.docker import DockerEngine, session_engine
from tests.support.swarm import swarm

ReportT = TypeVar("ReportT", pytest.TestReport, pytest.CollectReport)

# What takes 200 ms on a busy machine is no failure; each test has its time limit all the same.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.needs("prometheus")` skips where the program is missing."""
    for marker in item.iter_markers("needs"):
        missing = [str(program) for program in marker.args if shutil.which(str(program)) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}; .ci/run installs it")


def pytest_report_header() -> list[str]:
    missing = "not built, its tests are left out (make built builds it)"
    return [f"{name}: {built.programs(name) or missing}" for name in built.sets()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`@pytest.mark.built("kubernetes")` leaves a test out where what it runs on is not built, in CI too: it takes
    longer than CI has. The header says which it was."""
    missing = {name for name in built.sets() if built.programs(name) is None}
    absent = [item for item in items if any(missing & {*marker.args} for marker in item.iter_markers("built"))]
    if absent:
        items[:] = [item for item in items if item not in absent]
        config.hook.pytest_deselected(items=absent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped test is a failed one: what CI did not run, nobody knows to work."""
    report = yield
    return _no_skip_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    return _no_skip_in_ci(report)


def _no_skip_in_ci(report: ReportT) -> ReportT:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"
    return report


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A real Docker engine."""
    with session_engine() as found:
        yield found


@pytest.fixture(scope="session")
def manager() -> Iterator[DockerEngine]:
    """A real engine of this worker's own that is the manager of a swarm."""
    with swarm() as found:
        yield found
