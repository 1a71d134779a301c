"""What the demo lays out, and whether the daemon takes its configuration."""

from __future__ import annotations

import json
from pathlib import Path

from rollbackd import registry
from rollbackd.config.loading import load
from rollbackd.decide.policy import Policy
from rollbackd.demo.stage import GOOD, NEW, SERVICE, beside, build, write_beside


def test_the_good_release_is_current_and_the_new_one_carries_the_fault(tmp_path: Path) -> None:
    stage = build(tmp_path, "latency")
    assert stage.current() == GOOD
    faults = {
        version: json.loads((stage.shop / "releases" / version / "release.json").read_text())["fault"]
        for version in (GOOD, NEW)
    }
    assert faults == {GOOD: "none", NEW: "latency"}


def test_a_deployment_switches_the_link(tmp_path: Path) -> None:
    stage = build(tmp_path, "errors")
    stage.switch_to(NEW)
    assert stage.current() == NEW
    assert sorted(path.name for path in stage.shop.iterdir()) == ["current", "releases"]


def test_the_daemon_takes_the_configuration(tmp_path: Path) -> None:
    stage = build(tmp_path, "errors", tmp_path / "events.jsonl")
    config = load(stage.config, registry).config
    assert config.mode_for(SERVICE) == "act"
    assert (config.listen.host, config.listen.port) == ("127.0.0.1", stage.daemon_port)
    assert config.record == tmp_path / "events.jsonl"
    assert {block.name for block in config.services[SERVICE].streams} == {"scrape", "probe", "log_file"}


def test_only_times_are_shortened(tmp_path: Path) -> None:
    """What counts as bad is what counts as bad everywhere: alpha and every rule's measure are the defaults."""
    judged = load(build(tmp_path, "errors").config, registry).config.policy_for(SERVICE)
    usual = Policy()
    assert judged.alpha == usual.alpha
    assert judged.rules.availability is not None
    assert judged.rules.model_copy(update={"availability": usual.rules.availability}) == usual.rules


def test_a_recording_is_judged_as_it_was(tmp_path: Path) -> None:
    record = tmp_path / "events.jsonl"
    write_beside(record)
    stage = build(tmp_path / "stage", "errors")
    judged = load(beside(record), registry).config.policy_for(SERVICE)
    assert judged == load(stage.config, registry).config.policy_for(SERVICE)


def test_two_demos_at_a_time_use_other_ports(tmp_path: Path) -> None:
    stage = build(tmp_path, "errors")
    assert stage.shop_port != stage.daemon_port
