"""Getting into a git server: over https with a token, over ssh with a key, and with neither ever shown to anybody."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.git import ADAPTER
from tests.support.certificates import Authority
from tests.support.git_http import GitServer, git_server
from tests.support.repository import Repository
from tests.unit.targets.making import Make, making

pytestmark = [pytest.mark.needs("git", "openssl")]

TOKEN = "ghp_sesame7f3a9c"
ORDER = RevertOrder(to="v1", expect="v2", key="k1")
USUAL: dict[str, object] = {"path": "apps", "image": {"file": "apps/v.yaml", "key": "tag"}, "timeout": "30s"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    one = Repository(tmp_path / "served" / "deploy.git")
    one.git("config", "http.receivepack", "true")
    one.commit({"apps/v.yaml": "tag: v1\n"})
    one.commit({"apps/v.yaml": "tag: v2\n"})
    return one


@pytest.fixture
async def server(repository: Repository, tmp_path: Path) -> AsyncIterator[GitServer]:
    async with git_server(repository.folder.parent, Authority(tmp_path), TOKEN) as one:
        yield one


@pytest.fixture
async def make(server: GitServer, tmp_path: Path) -> AsyncIterator[Make]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    https = {
        "url": f"{server.url}/deploy.git",
        "token": {"file": str(tmp_path / "token")},
        "ca": str(tmp_path / "ca.pem"),
    }
    async with making(ADAPTER, {**USUAL, **https}, tmp_path / "state") as one:
        yield one


def command_lines() -> set[str]:
    """The command line of everything that runs on this machine."""
    found: set[str] = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            found.add((process / "cmdline").read_bytes().decode(errors="replace"))
    return found


async def test_a_token_opens_the_server_and_is_on_no_command_line(
    make: Make, repository: Repository, tmp_path: Path
) -> None:
    target = make()
    assert (await target.readiness("v1")).problems == ()
    reverting = asyncio.create_task(target.revert(ORDER))
    seen: set[str] = set()
    with capture_logs() as logs:
        while not reverting.done():
            seen |= command_lines()
            await asyncio.sleep(0)
    await reverting
    assert repository.text("apps/v.yaml") == "tag: v1"
    assert any("push" in line and "--porcelain" in line for line in seen), "looked too rarely to have seen anything"
    assert not [line for line in seen if TOKEN in line]
    assert TOKEN not in repr(logs) + repr(vars(target))
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept


async def test_a_wrong_token_is_told_without_it(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ghp_expired99\n")
    with pytest.raises(Permanent, match="the token is wrong or has expired") as caught:
        await make().current()
    assert "ghp_expired99" not in "".join(traceback.format_exception(caught.value))


async def test_a_missing_token_is_told(make: Make) -> None:
    with pytest.raises(Permanent, match="give a `token`"):
        await make(token=None).current()


async def test_a_token_that_is_renewed_works_without_a_reload(make: Make, tmp_path: Path) -> None:
    target = make()
    (tmp_path / "token").write_text("ghp_expired99\n")
    with pytest.raises(Permanent):
        await target.current()
    (tmp_path / "token").write_text(TOKEN)
    assert await target.current() is not None


async def test_an_account_that_may_only_read_is_not_ready(make: Make, server: GitServer) -> None:
    server.refused = True
    (problem,) = (await make().readiness("v1")).problems
    assert "give it the right to read and write" in problem


async def test_an_unknown_authority_is_not_trusted(make: Make) -> None:
    with pytest.raises(Permanent, match="name the authority"):
        await make(ca=None).current()


async def test_a_cut_while_the_answer_is_on_its_way_reverts_once(
    make: Make, server: GitServer, repository: Repository
) -> None:
    server.cut_after_push = True
    with suppress(Temporary):
        await make().revert(ORDER)
    server.cut_after_push = False
    await make().revert(ORDER)
    assert len(repository.git("log", "--format=%H", "--grep=Rollbackd-Key", "main").split()) == 1


async def test_a_server_that_is_down_is_temporary(make: Make) -> None:
    with pytest.raises(Temporary):
        await make(url="https://127.0.0.1:1/deploy.git").current()


async def test_a_token_of_two_lines_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a\nhost=evil.example\n")
    with pytest.raises(RollbackdError, match="a token is one line"):
        await make().current()


async def test_ssh_never_asks_and_trusts_no_unknown_host(
    make: Make, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of ssh, a program that notes how it was called and runs here what it should run there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name in ("deploy key", "known hosts"):
        (tmp_path / name).touch()
    files = {"ssh_key": str(tmp_path / "deploy key"), "known_hosts": str(tmp_path / "known hosts")}
    target = make(url=f"ssh://git@git.example.com{repository.folder}", token=None, ca=None, **files)
    await target.revert(ORDER)
    assert repository.text("apps/v.yaml") == "tag: v1"
    called = (tmp_path / "called").read_text().splitlines()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null"} <= {
        *called
    }
    assert f'UserKnownHostsFile="{files["known_hosts"]}"' in called
    assert called[called.index("-i") + 1] == files["ssh_key"]


async def test_a_key_that_is_not_there_is_told_before_it_is_needed(make: Make, tmp_path: Path) -> None:
    target = make(url="git@git.example.com:x.git", token=None, ca=None, ssh_key=str(tmp_path / "none"))
    (problem,) = (await target.readiness("v1")).problems
    assert "`ssh_key`" in problem
