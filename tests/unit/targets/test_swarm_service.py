"""When a Swarm service counts as in place, by what a manager says of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from rollbackd.docker.commands import Json
from rollbackd.targets.swarm_service import Service, ServiceSpec, Shown, Task, fingerprint, in_place


def template(image: str, **more: object) -> Json:
    return {"ContainerSpec": {"Image": image, "Env": ["POOL=10"]}, "Networks": [{"Target": "n1"}], **more}


def service(counts: Mapping[str, int] | None = None) -> Service:
    spec: Json = {"Name": "shop", "TaskTemplate": template("shop:v1"), "Mode": {"Replicated": {"Replicas": 2}}}
    shown: Json = {"ID": "s", "Version": {"Index": 1}, "Spec": spec}
    if counts is not None:
        shown["ServiceStatus"] = counts
    return Service(msgspec.convert(shown, Shown), msgspec.convert(spec, ServiceSpec), spec)


def task(image: str = "shop:v1", state: str = "running", desired: str = "running", **more: object) -> Task:
    return msgspec.convert({"Spec": template(image, **more), "Status": {"State": state}, "DesiredState": desired}, Task)


GOOD = task()


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([GOOD, GOOD], True),
        ([GOOD], False),
        ([GOOD, GOOD, task("shop:v2", "shutdown", "shutdown")], True),
        ([GOOD, GOOD, task("shop:v2", "failed", "shutdown")], True),
        ([GOOD, GOOD, task("shop:v2", "running", "shutdown")], False),
        ([GOOD, GOOD, task("shop:v2", "running", "running")], False),
        ([GOOD, task(state="starting")], False),
        ([GOOD, GOOD, task(state="starting")], False),
        ([GOOD, task("shop:v1@sha256:" + "0" * 64)], False),
        ([GOOD, GOOD, task(LogDriver={"Name": "none"})], False),
        ([GOOD, task(ForceUpdate=3)], True),
        ([], False),
    ],
)
def test_all_tasks_that_are_to_run_do_and_no_other(tasks: list[Task], expected: bool) -> None:
    assert in_place(tasks, service()) is expected


def test_what_the_manager_counts_goes_before_the_number_asked_for() -> None:
    """A global service asks for no number; and nodes come and go."""
    assert in_place([GOOD], service({"RunningTasks": 1, "DesiredTasks": 1}))
    assert not in_place([GOOD], service({"RunningTasks": 1, "DesiredTasks": 3}))


def test_what_says_nothing_and_how_many_there_are_makes_no_other_release() -> None:
    plain: Json = {"Name": "shop", "TaskTemplate": template("shop:v1")}
    same: Json = {
        **plain,
        "Labels": {"io.rollbackd.key": "k"},
        "TaskTemplate": template("shop:v2", ForceUpdate=7, Runtime="container", Placement={}),
        "Mode": {"Replicated": {"Replicas": 9}},
        "UpdateConfig": {"Parallelism": 2},
    }
    assert fingerprint(plain) == fingerprint(same)
    assert fingerprint(plain) != fingerprint({**plain, "Labels": {"team": "shop"}})
    assert fingerprint(plain) != fingerprint({**plain, "TaskTemplate": template("shop:v1", Placement={"X": 1})})
