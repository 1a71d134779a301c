"""`rollbackd check` and `rollbackd schema`, with the real adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollbackd.cli.main import main
from tests.unit.config.catalog import SIX_FAULTS

GOOD = """\
notify: [{webhook: "http://127.0.0.1:9000/"}]
services:
  checkout:
    target: {release_dir: {path: /srv/checkout, restart: "systemctl restart checkout"}}
    metrics: http://127.0.0.1:8080/metrics
    probe: http://127.0.0.1:8080/healthz
  search: {mode: shadow, target: {release_dir: /srv/search}, logs: /var/log/search.log}
  billing:
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rollbackd.yaml"


def test_six_different_faults_are_six_lines_each_with_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SIX_FAULTS)
    assert main(["check", "-c", str(file)]) == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[:2] for line in out.splitlines()] == [
        [f"{file}:1", "mode"],
        [f"{file}:2", "notfy"],
        [f"{file}:4", "auth.tokens[0].token"],
        [f"{file}:7", "services.checkout.target.relase_dir"],
        [f"{file}:8", "services.checkout.bake"],
        [f"{file}:9", "services.checkout.depends_on[0]"],
    ]
    assert "hunter2" not in out
    assert err == ""


def test_a_file_from_elsewhere_cannot_steer_the_terminal(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('services: {"a\\e[2Jb": {}, ok: {"\\e[31m": 1, depends_on: ["\\e]0;x\\a"]}}\n')
    assert main(["check", "-c", str(file)]) == 2
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert not {sign for sign in out if not sign.isprintable() and sign != "\n"}


def test_faults_are_there_for_programs_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("mode: actt\n")
    assert main(["check", "--config", str(file), "--format", "json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "file": str(file),
        "valid": False,
        "faults": [
            {"file": str(file), "line": 1, "where": "mode", "message": "expected act or shadow; did you mean `act`?"}
        ],
        "config": None,
        "services": [],
        "notes": [],
    }


def test_a_file_in_order_is_summed_up_in_plain_words(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)
    assert main(["check", "-c", str(file)]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{file} is in order (sha256 ",
        "Listens on 127.0.0.1:9797, keeps its data in /var/lib/rollbackd, tells 1 notifier.",
        "3 services; any other is judged by the defaults:",
        "checkout: watches scrape, probe; bad releases are reverted by release_dir.",
        "search: watches log_file; in shadow mode, release_dir is left alone.",
        "billing: watches pushed alerts alone; nothing can be reverted.",
        "Note: billing: no target, so trouble is told, but nothing can be reverted.",
    ):
        assert words in out


def test_a_file_in_order_is_summed_up_for_programs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)
    assert main(["check", "-c", str(file), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["faults"]) == (True, [])
    assert set(report["config"]) == {"sha256", "commit"}
    assert report["services"][1] == {
        "name": "search",
        "mode": "shadow",
        "target": "release_dir",
        "sources": ["log_file"],
    }


def test_an_empty_file_is_in_order(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("")
    assert main(["check", "-c", str(file)]) == 0
    assert "No services are named" in capsys.readouterr().out


def test_what_is_not_there_now_is_noted(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.log").touch()
    file.write_text(
        f"services: {{checkout: {{target: {{release_dir: {tmp_path}/nosuch}}, logs: {tmp_path}/nosuch.log}},"
        f" search: {{logs: {tmp_path}/there.log}}}}"
    )
    assert main(["check", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"Note: services.checkout: `path` of release_dir is not there now: {tmp_path}/nosuch." in out
    assert f"Note: services.checkout: `path` of log_file is not there now: {tmp_path}/nosuch.log." in out
    assert "there.log" not in out.replace("nosuch.log", "")


def test_a_file_without_services_is_noted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("{}")
    assert main(["check", str(file)]) == 0
    assert "Note: No service is configured" in capsys.readouterr().out


def test_the_file_may_be_named_without_an_option(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)
    assert main(["check", str(file)]) == 0
    assert "is in order" in capsys.readouterr().out
    for arguments in ([], ["-c", str(file), str(file)]):
        with pytest.raises(SystemExit, match="2"):
            main(["check", *arguments])


def test_a_missing_file_is_a_fault(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(file)]) == 2
    assert capsys.readouterr().out == f"{file}: no such file: check the path, or write one\n"


def test_secrets_must_be_there_unless_one_says_that_they_are_not(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI_TOKEN", raising=False)
    file.write_text("auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}]}")
    assert main(["check", "-c", str(file)]) == 2
    assert "environment variable CI_TOKEN is empty or not set" in capsys.readouterr().out
    assert main(["check", "-c", str(file), "--without-secrets"]) == 0


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "target.release_dir" in schema["$defs"]
