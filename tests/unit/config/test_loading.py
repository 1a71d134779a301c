"""From a path to a configuration and its stamp: files that are not there, and work trees that are."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rollbackd.config import stamp as stamps
from rollbackd.config.document import MAX_BYTES
from rollbackd.config.faults import ConfigFaults
from rollbackd.config.loading import Loaded, load
from rollbackd.errors import ConfigError
from tests.support.nobody import as_nobody
from tests.unit.config.catalog import FakeCatalog


def loaded(path: Path) -> Loaded:
    return load(path, FakeCatalog())


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(path)
    assert isinstance(caught.value, ConfigFaults)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rollbackd.yaml"
    path.write_text("mode: shadow\n")
    return path


def test_a_file_is_loaded_with_the_hash_of_its_bytes(file: Path) -> None:
    assert loaded(file).config.mode == "shadow"
    assert loaded(file).stamp.sha256 == hashlib.sha256(b"mode: shadow\n").hexdigest()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nope.yaml") == f"{tmp_path}/nope.yaml: no such file: check the path, or write one"


def test_a_dangling_link_is_told_with_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to("nope.yaml")
    assert refusal(link).endswith("it is a link to nope.yaml, which is not there")


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(link)
    assert "cannot be read: Too many levels of symbolic links" in refusal(link)


def test_a_directory_is_told(tmp_path: Path) -> None:
    assert "a directory: name the file in it" in refusal(tmp_path)


def test_a_file_that_cannot_be_read_is_told() -> None:
    """The memory of a process has nothing at its beginning, not even for root, whom no permissions stop."""
    assert "cannot be read: Input/output error; check its permissions and links" in refusal(Path("/proc/self/mem"))


def test_a_file_below_a_file_is_told(file: Path) -> None:
    assert "cannot be read: Not a directory" in refusal(file / "x")


def test_a_path_that_cannot_be_is_told() -> None:
    assert "cannot be read" in refusal(Path("a\0b"))


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as out:
        out.truncate(MAX_BYTES * 1000)
    assert "larger than 4MiB: is it the right file?" in refusal(huge)


def test_faults_name_the_file_as_it_was_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("mode: x\n")
    monkeypatch.chdir(file.parent)
    assert refusal(Path("rollbackd.yaml")).startswith("rollbackd.yaml:1: mode: ")


def test_secrets_must_be_readable_unless_the_caller_does_not_need_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI_TOKEN", raising=False)
    file.write_text("auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}]}")
    assert "environment variable CI_TOKEN is empty or not set" in refusal(file)
    assert load(file, FakeCatalog(), reveal=False).config.auth.tokens[0].name == "ci"


# -- the commit it comes from


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tracked(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, committed; nothing of the machine's own git settings counts."""
    monkeypatch.setenv("HOME", str(file.parent / "home"))
    git(file.parent, "init", "--quiet")
    git(file.parent, "add", "rollbackd.yaml")
    git(file.parent, "commit", "--quiet", "--message", "one")
    return file


@pytest.mark.needs("git")
def test_a_tracked_file_is_stamped_with_its_commit(tracked: Path) -> None:
    assert loaded(tracked).stamp.commit == git(tracked.parent, "rev-parse", "HEAD")


@pytest.mark.needs("git")
def test_changes_elsewhere_in_the_work_tree_do_not_matter(tracked: Path) -> None:
    (tracked.parent / "other").write_text("x")
    assert loaded(tracked).stamp.commit == git(tracked.parent, "rev-parse", "HEAD")


@pytest.mark.needs("git")
def test_a_changed_file_is_marked(tracked: Path) -> None:
    tracked.write_text("mode: act\n")
    assert loaded(tracked).stamp.commit == git(tracked.parent, "rev-parse", "HEAD") + "-dirty"


@pytest.mark.needs("git")
@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_file_in_a_work_tree_is_marked(tracked: Path, ignored: bool) -> None:
    if ignored:
        (tracked.parent / ".gitignore").write_text("*.local\n")
    untracked = tracked.parent / "[a]*.local"
    untracked.write_text("mode: act\n")
    assert loaded(untracked).stamp.commit == git(tracked.parent, "rev-parse", "HEAD") + "-dirty"


@pytest.mark.needs("git")
def test_a_name_with_a_star_stands_for_itself_alone(tracked: Path) -> None:
    star = tracked.parent / "a*.yaml"
    star.write_text("mode: act\n")
    git(tracked.parent, "add", ":(literal)a*.yaml")
    git(tracked.parent, "commit", "--quiet", "--message", "two")
    (tracked.parent / "ab.yaml").write_text("mode: act\n")
    assert loaded(star).stamp.commit == git(tracked.parent, "rev-parse", "HEAD")


@pytest.mark.needs("git")
def test_a_link_into_a_work_tree_counts_as_what_it_leads_to(
    tracked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("etc") / "rollbackd.yaml"
    link.symlink_to(tracked)
    assert loaded(link).stamp.commit == git(tracked.parent, "rev-parse", "HEAD")


@pytest.mark.needs("git")
def test_git_variables_around_us_do_not_mislead(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(tracked.parent, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert loaded(tracked).stamp.commit == commit


@pytest.mark.needs("git")
def test_a_work_tree_without_a_commit_gives_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    git(file.parent, "init", "--quiet")
    assert loaded(file).stamp.commit is None


def test_a_file_outside_of_any_work_tree_has_no_commit(file: Path) -> None:
    assert loaded(file).stamp.commit is None


def test_without_git_there_is_no_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert loaded(file).stamp.commit is None


def test_a_git_that_hangs_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = file.parent / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
    monkeypatch.setattr(stamps, "_PATIENCE_S", 0.1)
    assert loaded(file).stamp.commit is None


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file, committed, in a folder that everybody may enter: the parents of tmp_path are their owner's alone."""
    with TemporaryDirectory() as name:
        place = Path(name)
        monkeypatch.setenv("HOME", f"{name}/home")
        place.chmod(0o755)
        (place / "rollbackd.yaml").write_text("mode: shadow\n")
        git(place, "init", "--quiet")
        git(place, "add", "rollbackd.yaml")
        git(place, "commit", "--quiet", "--message", "one")
        yield place / "rollbackd.yaml"


@pytest.mark.needs("git")
def test_the_commit_is_known_to_a_user_who_does_not_own_the_configuration(kept: Path) -> None:
    """As under the systemd unit: root's file, read by the daemon's user."""
    commit = git(kept.parent, "rev-parse", "HEAD")
    with as_nobody():
        assert stamps.commit_of(kept) == commit


@pytest.mark.needs("git")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given", [".", ".git"])
def test_a_repository_of_somebody_elses_is_not_asked(kept: Path, given: str) -> None:
    """Its settings name programs that git runs."""
    os.chown(kept.parent / given, 65534, 65534)
    assert stamps.commit_of(kept) is None
