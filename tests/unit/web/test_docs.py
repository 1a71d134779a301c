"""The pages about the API and the webhooks are true: paths, error codes and examples are those of the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rollbackd import registry
from rollbackd.intake.reading import REACH_S
from rollbackd.web.body import Limits
from tests.support.deliveries import Known, delivery
from tests.support.website import build_intake, served

ROOT = Path(__file__).parents[3]
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
OVERVIEW = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/webhooks").glob("*.md"))}
SOURCES = [*(ROOT / "rollbackd/web").glob("*.py"), *(ROOT / "rollbackd/intake").glob("*.py")]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


async def test_every_path_is_told_with_its_scope_and_no_other() -> None:
    async with served() as site, site.client.get("/api/v1/openapi.json") as response:
        paths = (await response.json())["paths"]
    real = set()
    for path, operations in paths.items():
        for method, operation in operations.items():
            needed = [scope for way in operation.get("security", []) for scope in way.get("bearer", [])]
            real.add((f"{method.upper()} {path}", needed[0] if needed else "none"))
    assert set(re.findall(r"^\| `((?:GET|POST|PUT) \S+)` \| (\w+) \|", API, re.MULTILINE)) == real


def test_every_error_code_is_told_and_no_other() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    real = set(re.findall(r'(?:HttpError|_respond)\((?:\d+|error\.status), "(\w+)"', source))
    real |= set(re.findall(r'\b(?:code|code: str|error)="(\w+)"', source)) | {"malformed"}
    table = API.partition("## Errors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \w+ \| (.+?) \|", table, re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == real


def test_every_intake_has_its_page_and_its_row() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\(webhooks/\1\.md\) \| `POST (\S+)` \| `(\w+)` \|", OVERVIEW, re.MULTILINE)
    intakes = {name: build_intake(name, Known()) for name in registry.names("intake")}
    assert set(rows) == {(name, intake.path, intake.scope) for name, intake in intakes.items()}
    assert set(PAGES) == set(intakes)


def test_every_example_of_a_deployment_is_taken() -> None:
    examples = [json.loads(text) for text in blocks(PAGES["deployments"], "json")]
    told = [example for example in examples if "version" in example]
    assert len(told) == 2
    at = 1793714405.0  # 2026-11-03T14:00:05Z
    for example in told:
        assert build_intake("deployments", Known()).read(delivery(example, at)).accepted


def test_the_stated_bounds_are_those_of_the_code() -> None:
    minutes, seconds = divmod(REACH_S, 60)
    for page in (PAGES["deployments"], PAGES["alertmanager"]):
        assert f"{minutes:.0f} min {seconds:.0f} s" in page
    assert f"longer than {Limits().body_timeout_s:.0f} s" in API
    alertmanager = build_intake("alertmanager", Known())
    assert f"over {alertmanager.max_bytes // 1024**2} MiB" in PAGES["alertmanager"]


@pytest.mark.needs("amtool")
def test_the_example_for_alertmanager_is_valid_for_alertmanager(tmp_path: Path) -> None:
    (example,) = [text for text in blocks(PAGES["alertmanager"], "yaml") if "webhook_configs" in text]
    assert yaml.safe_load(example)["receivers"][0]["webhook_configs"][0]["url"].endswith("/hooks/alertmanager")
    path = tmp_path / "alertmanager.yml"
    path.write_text(example, encoding="utf-8")
    amtool = shutil.which("amtool")
    assert amtool is not None
    checked = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
