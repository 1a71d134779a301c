"""Deployments of a CSV file: every fault is told at once, with its line and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.backtest.deployments import Deployment, from_csv
from rollbackd.config.faults import ConfigFaults

NOW = 1_764_000_000.0


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "deployments.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def faults(folder: Path, text: str | bytes) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ConfigFaults) as caught:
        from_csv(path, NOW)
    return [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults]


def test_moments_are_unix_seconds_or_iso_with_a_zone_and_rows_come_in_any_order(tmp_path: Path) -> None:
    text = (
        "\ufeffversion, service, deployed_at\r\n"
        "v3,shop,1763900000.5\r\n\r\n"
        "v2,shop,2025-11-23T13:00:00+01:00\r\n"
        '"1,0",cart,2025-11-23T12:00:00Z\r\n'
    )
    assert from_csv(write(tmp_path, text), NOW) == [
        Deployment(deployed_at=1763899200.0, service="cart", version="1,0"),
        Deployment(deployed_at=1763899200.0, service="shop", version="v2"),
        Deployment(deployed_at=1763900000.5, service="shop", version="v3", previous="v2"),
    ]


def test_what_ran_before_is_what_the_row_says_else_the_row_before(tmp_path: Path) -> None:
    text = "service,version,deployed_at,previous\nshop,v2,100,v1\nshop,v3,200,\nshop,v3,300,\nshop,v4,400,v2\n"
    assert [one.previous for one in from_csv(write(tmp_path, text), NOW)] == ["v1", "v2", None, "v2"]


def test_every_fault_is_told_at_once_with_line_and_cure(tmp_path: Path) -> None:
    text = (
        "service,version,deployed_at,previous\n"
        ",v1,100,\n"
        "shop,,2025-11-23T12:00:00,\n"
        "shop,v1,yesterday,v1\n"
        "shop,v1,1763900000000,\n"
        "shop,v1,1764099999,\n"
        "shop,v1,-5,\n"
        "shop,v1\n"
        "shop,v1,300,\n"
        f"shop,{'v' * 501},300,\n"
    )
    found = faults(tmp_path, text)
    expected = [
        ("2: service: empty", "every deployment has one"),
        ("3: version: empty", "every deployment has one"),
        ("3: deployed_at: `2025-11-23T12:00:00` has no zone", "2026-11-24T10:00:00Z"),
        ("4: deployed_at: `yesterday` is no moment", "Unix seconds"),
        ("4: previous: the release itself", "leave it empty"),
        ("5: deployed_at: `1763900000000`", "milliseconds?"),
        ("6: deployed_at: `1764099999` lies in the future", "check its zone"),
        ("7: deployed_at: `-5` is no moment", "Unix seconds"),
        ("8: 2 values for 4 columns", "in quotes"),
        ("10: version: longer than 500", "characters"),
        ("10: deployed_at: line 9 has a deployment of this service", "moment"),
    ]
    assert len(found) == len(expected)
    for said, (begins, holds) in zip(found, expected, strict=True):
        assert said.startswith(begins)
        assert holds in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1: empty: begin with a line `service,version,deployed_at`"),
        ("service,verson,deployed_at\n", "1: there is no column `verson`; did you mean `version`?"),
        (",".join(["version"] * 30_000), "1: 30000 columns: the columns are service"),
        ("service,version\nshop,v1\n", "1: the column `deployed_at` is missing"),
        ("service,service,version,deployed_at\n", "1: service: this column is there twice"),
        ('service,version,deployed_at\n"shop,v1,5\n', "2: no CSV"),
        (b"service,version,deployed_at\nsh\xffop,v1,5\n", "2: not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert faults(tmp_path, text)[0].startswith(words)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults, match=r"no\.csv: cannot be read: No such file"):
        from_csv(tmp_path / "no.csv", NOW)
