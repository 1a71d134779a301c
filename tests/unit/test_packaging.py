"""What is shipped: the wheel, the image's recipe and the requirements are whole and fit together."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import rollbackd
from rollbackd import registry
from rollbackd.config.loading import load

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as it would be shipped, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert ran.returncode == 0, ran.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "rollbackd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == package
    assert "rollbackd/py.typed" in shipped


def test_the_wheel_carries_licence_version_and_requirements(wheel: zipfile.ZipFile) -> None:
    info = f"rollbackd-{rollbackd.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert sorted(name.lower() for name in required) == sorted(
        re.split(r"[>=\[ ]", text)[0].lower() for text in PYPROJECT["project"]["dependencies"]
    )


def test_no_lock_names_a_place_to_download_from() -> None:
    for lock in sorted((ROOT / "requirements").iterdir()):
        assert "://" not in lock.read_text(encoding="utf-8"), lock.name


def test_every_dependency_is_accounted_for() -> None:
    """docs/dependencies.md says of each what it is for."""
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    wanted = [*PYPROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]
    names = [re.split(r"[>=\[ ]", text)[0] for text in wanted]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def copied_from_the_tree() -> list[str]:
    copies = re.findall(r"^COPY +(?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for copy in copies for source in copy.split()[:-1]]


def test_the_image_copies_only_what_exists_and_is_sent_to_the_builder() -> None:
    """Docker cannot be asked here, so the two files are read as it reads them: the last matching line wins."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sources = copied_from_the_tree()
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        sample = f"{source}x" if source.endswith("/") else source
        verdict = [line for line in patterns if fnmatch.fnmatch(sample, line.removeprefix("!"))][-1]
        assert verdict.startswith("!"), f"{source} is left out by `{verdict}`"


def test_the_image_holds_all_that_the_build_reads() -> None:
    """A wheel built from what the image copies needs no other file of the tree."""
    needed = {PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"], "pyproject.toml", "rollbackd/"}
    assert needed <= set(copied_from_the_tree())


def test_the_image_runs_our_program_as_nobody_in_particular() -> None:
    program = re.findall(r'^ENTRYPOINT \["([^"]+)"\]$', DOCKERFILE, re.MULTILINE)
    assert program == list(PYPROJECT["project"]["scripts"])
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that an orchestrator can see that it is not root"
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")


def test_the_image_writes_only_to_its_volume() -> None:
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert f"HOME={volume}" in DOCKERFILE
    assert "PYTHONDONTWRITEBYTECODE=1" in DOCKERFILE


def test_the_image_installs_nothing_without_its_hash() -> None:
    installs = re.findall(r"(?:pip|rollbackd/bin/python) install\s+([^&\n]+)", DOCKERFILE)
    assert len(installs) == 3
    for options in installs:
        assert "--require-hashes" in options or "--no-deps /wheel/*.whl" in options


def test_what_runs_in_the_cluster_fits_the_image_and_the_rights(tmp_path: Path) -> None:
    folder = ROOT / "config" / "kubernetes"
    ours = {one["kind"]: one for one in yaml.safe_load_all((folder / "rollbackd.yaml").read_text(encoding="utf-8"))}
    rights = list(yaml.safe_load_all((folder / "rbac.yaml").read_text(encoding="utf-8")))
    (tmp_path / "rollbackd.yaml").write_text(ours["ConfigMap"]["data"]["rollbackd.yaml"], encoding="utf-8")
    config = load(tmp_path / "rollbackd.yaml", registry).config
    deployment = ours["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]

    (account,) = [one["metadata"] for one in rights if one["kind"] == "ServiceAccount"]
    assert (pod["serviceAccountName"], ours["Deployment"]["metadata"]["namespace"]) == (
        account["name"],
        account["namespace"],
    )
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{pod['securityContext']['fsGroup']}\n" in DOCKERFILE
    assert {one["mountPath"] for one in container["volumeMounts"]} == {"/etc/rollbackd", str(config.data_dir)}
    assert (config.listen.host, config.listen.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate"), "a ledger has one daemon"
