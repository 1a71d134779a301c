"""`rollbackd backtest` against a real Prometheus that remembers a bad release and good ones."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.prometheus import Past, Shape, real_prometheus

pytestmark = pytest.mark.needs("prometheus", "promtool")

HOUR = 3600.0
NOW = time.time() // 15 * 15
BAD, BACK, GOOD, SLOW, SILENT = NOW - 6 * HOUR, NOW - 5.5 * HOUR, NOW - 5.9 * HOUR, NOW - 2.5 * HOUR, NOW - 2 * HOUR


def remembered() -> Past:
    """checkout's v2 fails and is put back by hand, search's s2 is good, cart's c2 is slow; mail says nothing."""
    past = Past()
    start = NOW - 8 * HOUR
    fine, failing, slow = Shape(), Shape(failing=0.2), Shape(slowness=0.4)
    past.serve("checkout", start, NOW, lambda t: ("v2", failing) if BAD < t <= BACK else ("v1", fine))
    past.serve("search", start, NOW, lambda t: ("s2" if t > GOOD else "s1", fine))
    past.serve("cart", start, NOW, lambda t: ("c2", slow) if t > SLOW else ("c1", fine))
    moment = BAD + 60
    while moment <= BACK:
        labels = {"alertname": "Errors", "alertstate": "firing", "job": "checkout", "severity": "page"}
        past.sample("ALERTS", "gauge", "ALERTS", labels, moment, 1)
        moment += 30
    return past


async def rollbackd(*arguments: str) -> str:
    """What the command prints, run as operators run it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rollbackd", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_bad_release_would_have_been_rolled_back_and_the_good_ones_kept(tmp_path: Path) -> None:
    """And the recordings of it lead a replay to the same decisions, with the same evidence."""
    config, table, kept = tmp_path / "rollbackd.yaml", tmp_path / "deployments.csv", tmp_path / "kept"
    config.write_text("services: {checkout: {}, search: {}, cart: {}, mail: {}}\n")
    table.write_text(
        "service,version,deployed_at,previous\n"
        f"checkout,v2,{datetime.fromtimestamp(BAD, UTC).isoformat()},v1\n"
        f"checkout,v1,{BACK},\n"
        f"search,s2,{GOOD},s1\n"
        f"cart,c2,{SLOW},c1\n"
        f"mail,m2,{SILENT},m1\n"
    )
    async with real_prometheus(tmp_path, remembered()) as url:
        asked = ("backtest", "-c", str(config), "--prometheus", url, "--deployments", str(table), "--since", "1d")
        report = json.loads(await rollbackd(*asked, "--format", "json", "--save", str(kept)))
        story = await rollbackd(*asked, "--service", "checkout", "--service", "mail")

    said = {one["version"]: (one["judged"], one["cause"], one["to"], one["rule"]) for one in report["judgements"]}
    assert said == {
        "v2": ("rollback", None, "v1", "error_ratio"),
        "v1": ("kept", None, None, None),
        "s2": ("kept", None, None, None),
        "c2": ("rollback", None, "c1", "latency"),
        "m2": ("unjudged", "no_series", None, None),
    }
    bad = report["judgements"][0]
    assert (bad["version"], bad["deployed_at"]) == ("v2", BAD)
    assert 0 < bad["after_s"] < 300
    alert = next(rule for rule in bad["decisions"][0]["evidence"] if rule["rule"] == "alert")
    assert alert["observed"] == bad["after_s"] - 60  # it fires since a minute after the deployment

    recordings = sorted(str(path) for path in kept.glob("*.jsonl"))
    assert len(recordings) == 2  # cart and mail are near one another, and far from the others
    replayed = await rollbackd("replay", "--format", "json", *recordings)
    decided = [decision for one in report["judgements"] for decision in one["decisions"]]
    assert [json.loads(line) for line in replayed.splitlines()] == decided

    assert "ROLLBACK" in story
    assert "a rollback that helped" in " ".join(story.split())
    assert "2 deployments judged: 1 would have been rolled back, 1 kept." in story
    assert "1 could not be judged: 1 without any series." in story
