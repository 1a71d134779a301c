"""A branch that says what runs: what its commits are called, and what a revert makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets import git_releases
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.git import ADAPTER
from rollbackd.targets.git_branch import GitConfig
from rollbackd.targets.git_mirror import Mirror
from rollbackd.targets.git_program import Git
from rollbackd.targets.process import Finished
from tests.support.repository import Repository
from tests.support.waiting import eventually
from tests.unit.targets.making import Make, making

pytestmark = pytest.mark.needs("git")

APP = "apps/checkout"
IMAGE = {"file": f"{APP}/values.yaml", "key": "image.tag"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two services; `checkout` was deployed twice, and `search` after that."""
    one = Repository(tmp_path / "deploy.git")
    one.commit({f"{APP}/values.yaml": "image: {tag: v1}\n", "apps/search/values.yaml": "image: {tag: s1}\n"}, "good")
    one.commit({f"{APP}/values.yaml": "image: {tag: v2}\n"}, "bad")
    one.commit({"apps/search/values.yaml": "image: {tag: s2}\n"}, "other")
    return one


@pytest.fixture
async def make(repository: Repository, tmp_path: Path) -> AsyncIterator[Make]:
    async with making(ADAPTER, {"url": repository.url, "path": APP}, tmp_path / "state") as one:
        yield one


async def versions(target: Target) -> list[str]:
    return [release.version for release in await target.history()]


async def in_place(target: Target) -> str | None:
    release = await target.current()
    return release.version if release else None


def back(repository: Repository) -> tuple[str, str]:
    """The commits of the good and of the bad release."""
    bad, good = repository.git("rev-list", "main", "--", APP).split()[:2]
    return good, bad


async def revert(target: Target, to: str, expect: str, key: str = "k1") -> None:
    await target.revert(RevertOrder(to=to, expect=expect, key=key))


# -- what a release is


async def test_only_commits_that_touch_the_path_are_releases(make: Make, repository: Repository) -> None:
    good, bad = back(repository)
    target = make()
    assert await versions(target) == [bad, good]
    release = await target.current()
    assert release is not None
    assert (release.version, release.commit, release.created_at) == (bad, bad, 1_700_000_120.0)


async def test_a_commit_can_be_named_by_fewer_digits(make: Make, repository: Repository) -> None:
    good, bad = back(repository)
    target = make(digits=8)
    assert await versions(target) == [bad[:8], good[:8]]
    await revert(target, good[:8], bad[:8])
    assert await in_place(target) == good[:8]


async def test_a_release_is_named_by_its_manifest(make: Make, repository: Repository) -> None:
    """More replicas are no release."""
    repository.commit({f"{APP}/values.yaml": "image: {tag: v2}\nreplicas: 9\n"})
    target = make(image=IMAGE)
    assert await versions(target) == ["v2", "v1"]
    release = await target.current()
    assert release is not None
    assert release.created_at == 1_700_000_120.0


async def test_a_merge_is_the_release_and_not_what_it_merges(make: Make, repository: Repository) -> None:
    good, _ = back(repository)
    head = repository.head
    one = repository.commit({f"{APP}/values.yaml": "x\n"}, branch="feature", on=head)
    two = repository.commit({f"{APP}/values.yaml": "y\n"}, branch="feature", on=one)
    merge = repository.commit({f"{APP}/values.yaml": "y\n"}, "merge", merging=two)
    assert (await versions(make()))[::2] == [merge, good]


async def test_what_is_taken_away_is_not_deployed(make: Make, repository: Repository) -> None:
    repository.commit({f"{APP}/values.yaml": None})
    assert await make().current() is None
    assert await make(image=IMAGE).current() is None
    assert "nothing is deployed" in "".join((await make().readiness(back(repository)[0])).problems)


async def test_it_looks_back_until_it_sees_releases(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_releases, "_ENOUGH", 2)
    good, bad = back(repository)
    for number in range(25):
        repository.commit({"apps/search/values.yaml": f"image: {{tag: s{number}}}\n"})
    assert await versions(make(depth=10)) == [bad, good]


async def test_a_server_without_filters_is_read_all_the_same(make: Make, repository: Repository) -> None:
    repository.git("config", "uploadpack.allowFilter", "false")
    assert await versions(make(image=IMAGE)) == ["v2", "v1"]


async def test_a_message_is_believed_only_where_the_files_agree(make: Make, repository: Repository) -> None:
    good, _ = back(repository)
    liar = repository.commit({f"{APP}/values.yaml": "image: {tag: evil}\n"}, f"x\n\nRollbackd-Commit: {good}\n")
    assert await in_place(make()) == liar


# -- what a revert does


async def test_a_revert_is_a_commit_on_top_that_says_why(make: Make, repository: Repository) -> None:
    good, bad = back(repository)
    head = repository.head
    target = make(author={"name": "Rolly", "email": "r@example.com"}, link="https://rollbackd.example/{service}/{key}")
    await revert(target, good, bad)
    assert repository.git("log", "-1", "--format=%P|%an <%ae>|%s", "main") == (
        f"{head}|Rolly <r@example.com>|Revert checkout to {good}"
    )
    assert repository.trailers() == {
        "Rollbackd-Service": "checkout",
        "Rollbackd-From": bad,
        "Rollbackd-To": good,
        "Rollbackd-Commit": good,
        "Rollbackd-Key": "k1",
    }
    said = repository.git("log", "-1", "--format=%B", "main")
    assert f"This undoes:\n  {bad}" in said
    assert "Why: https://rollbackd.example/checkout/k1" in said
    assert repository.text(f"{APP}/values.yaml") == "image: {tag: v1}"
    assert repository.text("apps/search/values.yaml") == "image: {tag: s2}"
    assert await in_place(target) == good
    assert await target.settled(good)
    assert await versions(target) == [good, bad]


async def test_the_path_becomes_exactly_what_it_was(make: Make, repository: Repository) -> None:
    """Through a merge, several commits, new files and files that are gone: no `git revert` of one commit does that."""
    good = repository.commit({f"{APP}/run me.sh": "go\n", f"{APP}/deep/er/file": "1\n"}, "good")
    repository.commit({f"{APP}/values.yaml": None, f"{APP}/new": "2\n"})
    side = repository.commit({f"{APP}/deep/er/file": "3\n", f"{APP}/deep/er/more": "4\n"}, branch="side", on=good)
    bad = repository.commit({f"{APP}/deep/er/file": "5\n", f"{APP}/run me.sh": None}, "merge", merging=side)
    target = make()
    await revert(target, good, bad)
    assert repository.at("main", APP) == repository.at(good, APP)
    assert await in_place(target) == good


async def test_the_state_before_the_bad_release_comes_back(make: Make, repository: Repository) -> None:
    """Values that changed while the good release was in place belong to it."""
    last = repository.commit({f"{APP}/values.yaml": "image: {tag: v2}\nreplicas: 9\n"})
    repository.commit({f"{APP}/values.yaml": "image: {tag: v3}\nreplicas: 9\n"})
    await revert(make(image=IMAGE), "v2", "v3")
    assert repository.at("main", APP) == repository.at(last, APP)


@pytest.mark.parametrize("path", [".", f"{APP}/values.yaml", "apps"])
async def test_a_path_can_be_a_file_or_the_whole_repository(make: Make, repository: Repository, path: str) -> None:
    repository.commit({"apps/search/values.yaml": "image: {tag: s3}\n"})
    repository.commit({f"{APP}/values.yaml": "image: {tag: v3}\n", "new": "1\n"})
    await revert(make(image=IMAGE, path=path), "v2", "v3")
    assert repository.text(f"{APP}/values.yaml") == "image: {tag: v2}"
    assert (repository.at("main", "new") == "") is (path == ".")


async def test_a_folder_that_became_a_file_becomes_a_folder_again(make: Make, repository: Repository) -> None:
    good, _ = back(repository)
    repository.commit({f"{APP}/values.yaml": None})
    bad = repository.commit({APP: "a file\n"})
    await revert(make(), good, bad)
    assert repository.at("main", APP) == repository.at(good, APP)


async def test_what_others_wrote_does_not_reach_the_message(make: Make, repository: Repository) -> None:
    """A pipeline that reads `[skip ci]` anywhere in it would not deploy the revert."""
    bad = repository.commit({f"{APP}/values.yaml": "x\n"}, "release [skip ci] fixes #1 @all")
    await revert(make(), back(repository)[0], bad)
    said = repository.git("log", "-1", "--format=%B", "main")
    assert "skip" not in said
    assert "#1" not in said


async def test_the_message_says_why_and_nothing_in_it_is_an_order(make: Make, repository: Repository) -> None:
    """A reason quotes what the service logged, and that may hold what pipelines and servers act upon."""
    good, bad = back(repository)
    reason = "a new error, `fixes #1 [skip ci]`\n\nRollbackd-Key: k2 @all ***NO_CI***" + 600 * "x"
    await make().revert(RevertOrder(to=good, expect=bad, key="k1", reason=reason))
    said = repository.git("log", "-1", "--format=%B", "main")
    (because,) = [line for line in said.splitlines() if line.startswith("Because: ")]
    assert because.startswith("Because: a new error, `fixes No. 1 (skip ci)` Rollbackd-Key: k2  at all NO_CIxxx")
    assert len(because) < 520
    assert repository.trailers()["Rollbackd-Key"] == "k1"


# -- others push meanwhile


def meanwhile(monkeypatch: pytest.MonkeyPatch, *happens: object) -> list[str]:
    """After each revert commit was made and before it is pushed, the next of these is called."""
    made: list[str] = []
    real = Mirror.commit
    queue = list(happens)

    async def commit(self: Mirror, parent: str, good: str, path: str, message: str) -> str:
        made.append(await real(self, parent, good, path, message))
        if queue:
            call = queue.pop(0)
            assert callable(call)
            call()
        return made[-1]

    monkeypatch.setattr(Mirror, "commit", commit)
    return made


async def test_a_push_elsewhere_meanwhile_is_kept(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = back(repository)
    made = meanwhile(monkeypatch, lambda: repository.commit({"apps/search/values.yaml": "image: {tag: s3}\n"}))
    await revert(make(), good, bad)
    assert len(made) == 2
    assert repository.text("apps/search/values.yaml") == "image: {tag: s3}"
    assert repository.at("main", APP) == repository.at(good, APP)


async def test_a_push_in_the_middle_of_ours_is_kept(make: Make, repository: Repository, tmp_path: Path) -> None:
    """The server has already taken our commit in when somebody else's gets there first."""
    good, bad = back(repository)
    other = repository.commit({"apps/search/values.yaml": "image: {tag: s3}\n"}, branch="side", on=repository.head)
    first = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; "
    repository.hook("pre-receive", f"{first}env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {other}; }}")
    await revert(make(), good, bad)
    assert repository.git("log", "-1", "--format=%P", "main") == other
    assert repository.at("main", APP) == repository.at(good, APP)


@pytest.mark.parametrize("image", [None, IMAGE])
async def test_a_deployment_meanwhile_is_not_undone(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch, image: object
) -> None:
    """Not even one that leaves the version alone."""
    good, bad = ("v1", "v2") if image else back(repository)
    meanwhile(monkeypatch, lambda: repository.commit({f"{APP}/values.yaml": "image: {tag: v2}\nreplicas: 3\n"}))
    with pytest.raises(Conflict, match="somebody else deployed"):
        await revert(make(image=image), good, bad)
    assert "Rollbackd-Key" not in repository.trailers()
    assert "replicas" in repository.text(f"{APP}/values.yaml")


async def test_a_branch_that_was_wound_back_meanwhile_stays_there(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our commit would be a fast-forward for it, and bring back what somebody took away."""
    good, bad = back(repository)
    meanwhile(monkeypatch, lambda: repository.git("update-ref", "refs/heads/main", bad))
    with pytest.raises(Conflict):
        await revert(make(), good, bad)
    assert repository.head == bad


async def test_a_branch_that_never_rests_is_left_for_later(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = back(repository)
    push = [lambda: repository.commit({"apps/search/values.yaml": f"{repository.clock}\n"})] * 9
    made = meanwhile(monkeypatch, *push)
    with pytest.raises(Temporary, match="5 times"):
        await revert(make(), good, bad)
    assert len(made) == 5


# -- the server refuses, or goes away


async def test_a_protected_branch_is_told_with_the_servers_words_and_the_cure(
    make: Make, repository: Repository
) -> None:
    good, bad = back(repository)
    repository.hook("pre-receive", 'echo "GH006: Protected branch update failed" >&2; exit 1')
    head = repository.head
    with pytest.raises(Permanent) as caught:
        await revert(make(), good, bad)
    assert "GH006: Protected branch update failed" in str(caught.value)
    assert "mode: pull_request" in str(caught.value)
    assert not isinstance(caught.value, Conflict)
    assert repository.head == head


async def test_a_cut_after_the_server_took_it_is_a_success(make: Make, repository: Repository) -> None:
    good, bad = back(repository)
    repository.hook("post-receive", "kill -9 $PPID")
    await revert(make(), good, bad)
    assert len(repository.git("log", "--format=%H", "--grep=Rollbackd-Key", "main").split()) == 1


def has_ended(pid: int) -> bool:
    """Whether nothing is left of the process, or only what waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_server_that_hangs_is_given_up_in_time(make: Make, repository: Repository, tmp_path: Path) -> None:
    good, bad = back(repository)
    repository.hook("pre-receive", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    target = make(timeout="5s")
    await target.current()
    with pytest.raises(Temporary, match="within 5 s"):
        await revert(target, good, bad)
    await eventually(lambda: has_ended(int((tmp_path / "pid").read_text())))


class Crash(BaseException):
    """The daemon dies here."""


async def test_a_crash_between_any_two_commands_reverts_once(
    make: Make, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two that change something, that is: dying after a read is dying before the next change."""
    monkeypatch.setattr(git_releases, "KEPT", 4)
    real = Git.run
    left = 0

    async def run(self: Git, *arguments: str, variables: dict[str, str] | None = None) -> Finished:
        nonlocal left
        ran = await real(self, *arguments, variables=variables)
        left -= bool({*arguments} & {"fetch", "read-tree", "rm", "write-tree", "commit-tree", "push"})
        if left == 0:
            raise Crash
        return ran

    monkeypatch.setattr(Git, "run", run)
    crashes = 0
    while True:
        bad = f"b{crashes}"
        repository.commit({f"{APP}/values.yaml": f"image: {{tag: {bad}}}\n"})
        left = crashes + 1
        try:
            await revert(make(image=IMAGE), "v2", bad, bad)
        except Crash:
            crashes += 1
        else:
            break
        left = -1
        await revert(make(image=IMAGE), "v2", bad, bad)
        assert len(repository.git("log", "--format=%H", f"--grep=Rollbackd-Key: {bad}$", "main").split()) == 1
        assert repository.text(f"{APP}/values.yaml") == "image: {tag: v2}"
    assert crashes >= 7


@pytest.mark.parametrize("what", ["config", "HEAD", "refs/rollbackd/head", "objects", "url", "shallow.lock"])
async def test_a_damaged_copy_is_made_again(make: Make, repository: Repository, tmp_path: Path, what: str) -> None:
    good, bad = back(repository)
    await make().current()
    repository.commit({"apps/search/values.yaml": "image: {tag: s3}\n"})
    broken = tmp_path / "state" / "copy.git" / what
    if broken.is_dir():
        broken.rename(tmp_path / "elsewhere")
    else:
        broken.write_bytes(b"\0garbage\n")
    target = make()
    assert await in_place(target) == bad
    await revert(target, good, bad)
    assert repository.at("main", APP) == repository.at(good, APP)


async def test_another_repository_gets_a_copy_of_its_own(make: Make, tmp_path: Path) -> None:
    await make().current()
    other = Repository(tmp_path / "other.git")
    made = other.commit({f"{APP}/x": "1"})
    assert await versions(make(url=other.url)) == [made]


# -- by pull request


@pytest.mark.parametrize("how", ["merged", "squashed"])
async def test_a_revert_can_wait_in_a_branch_of_its_own(make: Make, repository: Repository, how: str) -> None:
    good, bad = back(repository)
    head = repository.head
    repository.hook("update", '[ "$1" != refs/heads/main ] || exit 1')
    target = make(mode="pull_request")
    assert (await target.readiness(good)).problems == ()
    await revert(target, good, bad, "rollback-checkout-1")
    branch = repository.git("rev-parse", "refs/heads/rollbackd/rollback-checkout-1")
    assert (repository.head, await in_place(target)) == (head, bad)
    with pytest.raises(Temporary, match=r"branch rollbackd/rollback-checkout-1 .* waits for you to merge it into main"):
        await target.settled(good)
    await revert(make(mode="pull_request"), good, bad, "rollback-checkout-1")
    assert repository.git("rev-parse", "refs/heads/rollbackd/rollback-checkout-1") == branch

    message = repository.git("log", "-1", "--format=%B", branch) if how == "squashed" else "Merge pull request #7"
    restored = {f"{APP}/values.yaml": repository.text(f"{APP}/values.yaml", branch) + "\n"}
    repository.commit(restored, message, merging=branch if how == "merged" else None)
    again = make(mode="pull_request")
    assert await in_place(again) == good
    assert await again.settled(good)
    await revert(again, good, bad, "rollback-checkout-1")
    repository.commit({f"{APP}/values.yaml": "image: {tag: v3}\n"})
    with pytest.raises(Conflict):
        await revert(again, good, bad, "rollback-checkout-1")


# -- nobody else's settings


async def test_settings_and_hooks_of_the_machine_are_not_obeyed(
    make: Make, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "home"
    (evil / "hooks").mkdir(parents=True)
    for name in ("pre-push", "reference-transaction", "post-index-change"):
        (evil / "hooks" / name).write_text(f"#!/bin/sh\ntouch {evil}/ran\nexit 1\n")
        (evil / "hooks" / name).chmod(0o755)
    settings = (
        f'[core]\nhooksPath = {evil}/hooks\n[url "file:///nowhere"]\ninsteadOf = file://\n[push]\ngpgSign = true\n'
    )
    (evil / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(evil))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_TRACE", str(evil / "trace"))
    good, bad = back(repository)
    await revert(make(), good, bad)
    assert {path.name for path in evil.iterdir()} == {"hooks", ".gitconfig"}


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://example.com/x"},
        {"url": "https://user:secret@example.com/x"},
        {"url": "ext::sh -c evil"},
        {"url": "--upload-pack=evil"},
        {"url": "git@example.com:x", "token": {"env": "TOKEN"}},
        {"url": "https://example.com/x", "ssh_key": "/key"},
        {"branch": "-f"},
        {"branch": "a..b"},
        {"branch": "main:other"},
        {"path": "../x"},
        {"path": "/x"},
        {"path": ".git/hooks"},
        {"image": {"file": "elsewhere/values.yaml", "key": "image.tag"}},
        {"image": {"file": f"{APP}/values.yaml", "key": "image..tag"}},
        {"author": {"name": "a <b>"}},
        {"digits": 6},
    ],
)
def test_settings_that_cannot_be_meant_are_told(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        GitConfig.model_validate({"url": "git@example.com:team/x.git", "path": APP, **settings})
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("git@github.com:acme/deploy.git", "ssh"),
        ("ssh://git@example.com:2222/deploy.git", "ssh"),
        ("https://example.com/deploy.git", "https"),
        ("/srv/git/deploy.git", "file"),
    ],
)
def test_repositories_are_reached_in_the_usual_ways(url: str, scheme: str) -> None:
    assert GitConfig(url=url).scheme == scheme


async def test_many_questions_at_once_are_answered(make: Make, repository: Repository) -> None:
    good, bad = back(repository)
    target = make()
    answers = await asyncio.gather(target.current(), target.history(), target.readiness(good), target.settled(bad))
    assert answers[3] is True
