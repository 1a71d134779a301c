"""A bare copy of one branch in the target's state folder: bounded, read by path, and thrown away when it is damaged."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from pathlib import Path

import structlog

from rollbackd.errors import Permanent, Temporary
from rollbackd.targets.disk import Disk
from rollbackd.targets.git_history import COMMIT, LOG_FORMAT
from rollbackd.targets.git_program import OLDEST, Git
from rollbackd.targets.process import Finished

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.git")

HEAD = "refs/rollbackd/head"
"""Where the branch's head is kept in the copy."""

ROOT = "."
"""The path that means the whole repository."""

DEEPEST = 100_000
"""How many commits of the branch are looked back at most."""

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_LOCKS = ("*.lock", "refs/rollbackd/*.lock", "objects/info/*.lock")
_DAMAGE = (
    "not a git repository: ",
    "bad config",
    "corrupt",
    "bad object",
    "loose object",
    "index file",
    "shallow file",
)


class Damaged(Temporary):
    """The copy was found damaged and has been thrown away; the next call makes it again."""


class Pushed(Enum):
    """How a push ended."""

    DONE = auto()
    MOVED = auto()
    """The branch is not where it was expected; nothing was changed."""
    REFUSED = auto()
    """The server refused it by a rule of its own."""


class Mirror:
    """The copy. Every method raises Temporary or Permanent; objects are named by their full hash."""

    def __init__(self, git: Git, disk: Disk, state_dir: Path, branch: str, depth: int) -> None:
        self._git = git
        self._disk = disk
        self._state_dir = state_dir
        self._folder = state_dir / "copy.git"
        self._ref = f"refs/heads/{branch}"
        self._branch = branch
        self._depth = depth
        self._one_at_a_time = asyncio.Lock()

    # -- keeping up with the server

    async def update(self) -> str:
        """The branch's head on the server, by now in the copy."""
        async with self._alone():
            await self._open()
            head = (await self.refs(self._ref)).get(self._ref)
            if head is None:
                raise Permanent(f"{self._git.url} has no branch {self._branch}")
            if await self._object(HEAD) != head:
                known = await self._object(HEAD)
                await self._fetch([] if known else [f"--depth={self._depth}"], f"+{self._ref}:{HEAD}")
                fetched = await self._object(HEAD)
                if fetched is None:
                    await self._throw_away("the branch's head is missing")
                head = fetched or head
            return head

    async def deepen(self, by: int) -> bool:
        """Look further back, by so many commits; False where everything is there already."""
        async with self._alone():
            if not await self.boundary():
                return False
            await self._fetch([f"--deepen={by}"], f"+{self._ref}:{HEAD}")
            return True

    async def boundary(self) -> frozenset[str]:
        """The commits at which the copy ends although the history goes on; they look as if they had no parents."""

        def read() -> frozenset[str]:
            try:
                return frozenset((self._folder / "shallow").read_text(encoding="ascii", errors="replace").split())
            except FileNotFoundError:
                return frozenset()

        return await self._disk.run(read)

    async def refs(self, pattern: str) -> dict[str, str]:
        """The server's refs of that name, with the commit of each."""
        ran = await self._run("ls-remote", "origin", pattern)
        if ran.code != 0:
            raise await self._trouble("cannot look at", ran)
        lines = (line.partition("\t") for line in ran.output.splitlines())
        return {name: found for found, _, name in lines if COMMIT.fullmatch(found)}

    async def _fetch(self, bounds: list[str], *what: str) -> None:
        await self._disk.run(self._sweep)
        # a server that knows no filters answers without one; the files' contents then come along
        options = ["--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--quiet"]
        ran = await self._run("fetch", *options, *bounds, "origin", *what)
        if ran.code != 0:
            raise await self._trouble("cannot fetch from", ran)

    # -- reading the copy

    async def log(self, head: str, path: str, most: int, *, raw: bool) -> str:
        """The commits of the branch itself, newest first, that touched this path; `raw` tells the blobs as well."""
        shown = ["--raw", "--no-abbrev", "--no-renames", "--diff-merges=first-parent"] if raw else []
        return await self._read(
            "log", "--first-parent", f"--max-count={most}", f"--format={LOG_FORMAT}", *shown, head, "--", path
        )

    async def shown(self, commits: Iterable[str]) -> str:
        """The same lines for these commits alone."""
        return await self._read("log", "--no-walk=unsorted", f"--format={LOG_FORMAT}", *commits, "--")

    async def at(self, commit: str, path: str) -> str | None:
        """The object (a folder's or a file's) that lies at this path in this commit."""
        return await self._object(f"{commit}^{{tree}}" if path == ROOT else f"{commit}:{path}")

    async def blob(self, name: str) -> bytes:
        """A file's content, or the first MiB of it. Where the copy was made without contents, it is fetched now."""
        ran = await self._run("cat-file", "blob", name)
        if ran.code != 0:
            raise await self._trouble("cannot fetch a file from", ran)
        return ran.output.encode()

    async def bring(self, blobs: list[str]) -> None:
        """Fetch these files' contents at one go, where the server lets us; otherwise each comes when it is read."""
        if len(blobs) > 1:
            options = ("--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--quiet")
            await self._run("fetch", *options, "origin", *blobs)

    async def length(self, head: str) -> int:
        """How many commits the copy holds, at most DEEPEST."""
        return int(await self._read("rev-list", "--count", f"--max-count={DEEPEST}", head, "--"))

    async def with_key(self, head: str, key: str) -> str | None:
        """The newest commit before `head` whose trailer holds this key."""
        wanted = f"Rollbackd-Key: {key}"
        form = "--format=%x00%H%x1f%(trailers:key=Rollbackd-Key,valueonly,unfold,separator=%x1f)"
        output = await self._read("log", "--fixed-strings", f"--grep={wanted}", "--max-count=100", form, head, "--")
        for text in output.split("\0")[1:]:
            commit, *keys = text.strip("\n").split("\x1f")
            if key in keys:
                return commit
        return None

    async def touched(self, since: str, head: str, path: str) -> bool:
        """Whether any commit from `since` (left out) to `head` touched the path, or the branch left `since` behind."""
        ran = await self._run("merge-base", "--is-ancestor", since, head)
        if ran.code != 0:
            return True
        return bool((await self._read("rev-list", "--max-count=1", f"{since}..{head}", "--", path)).strip())

    async def between(self, since: str, head: str, path: str, most: int) -> list[str]:
        """The commits of the branch itself after `since` that touched the path, newest first."""
        limits = ("--first-parent", f"--max-count={most}")
        return (await self._read("rev-list", *limits, f"{since}..{head}", "--", path)).split()

    # -- writing

    async def commit(self, parent: str, good: str, path: str, message: str) -> str:
        """A commit on top of `parent` in which `path` is what it was at `good`. Nobody sees it until it is pushed."""
        tree = await self.at(good, ROOT) if path == ROOT else await self._spliced(parent, good, path)
        if tree is None:
            await self._throw_away(f"{good} is missing")
        return (await self._read("commit-tree", str(tree), "-p", parent, "-m", message)).strip()

    async def _spliced(self, parent: str, good: str, path: str) -> str:
        # `rm` wants a folder for files, even where it takes them away from the index alone
        index = {"GIT_INDEX_FILE": str(self._state_dir / "index"), "GIT_WORK_TREE": str(self._state_dir / "empty")}
        await self._disk.run(self._clear_index)
        await self._read("read-tree", parent, variables=index)
        await self._read("rm", "-r", "--cached", "--force", "--quiet", "--ignore-unmatch", "--", path, variables=index)
        mode, kind, name = (await self._read("ls-tree", "-z", good, "--", path)).partition("\t")[0].split()
        if kind == "tree":
            await self._read("read-tree", f"--prefix={path}/", name, variables=index)
        else:
            entry = f"{mode},{name},{path}"
            await self._read("update-index", "--add", "--replace", "--cacheinfo", entry, variables=index)
        return (await self._read("write-tree", "--missing-ok", variables=index)).strip()

    async def push(self, commit: str, ref: str, expected: str, *, dry: bool = False) -> tuple[Pushed, str]:
        """Make the server's `ref` this commit, if it is `expected` now ("" for none); how that ended, and its words.

        Raises Temporary where nobody knows whether it happened. The lease makes it compare and set: without it, a
        branch that somebody wound back meanwhile would get back what they took away. It never forces anything, since
        `commit` stands on `expected`.
        """
        options = [
            "--porcelain",
            "--no-verify",
            f"--force-with-lease={ref}:{expected}",
            *(["--dry-run"] if dry else []),
        ]
        ran = await self._run("push", *options, "origin", f"{commit}:{ref}")
        if ran.code == 0:
            return Pushed.DONE, ""
        line = next((line for line in ran.output.splitlines() if line.startswith("!")), "")
        if "[rejected]" in line or any(words in line for words in ("cannot lock ref", "failed to update ref")):
            return Pushed.MOVED, line
        if "[remote rejected]" in line and "unpacker error" not in line and "internal" not in line:
            return Pushed.REFUSED, ran.tail
        raise await self._trouble("cannot push to", ran)

    # -- running git, and the copy's own faults

    async def _run(self, *arguments: str, variables: dict[str, str] | None = None) -> Finished:
        return await self._git.run(f"--git-dir={self._folder}", *arguments, variables=variables)

    async def _read(self, *arguments: str, variables: dict[str, str] | None = None) -> str:
        """What a command printed that needs nothing but the copy: where it fails, the copy is damaged."""
        ran = await self._run(*arguments, variables=variables)
        if ran.code != 0 or ran.overflowed:
            await self._throw_away(ran.tail)
        return ran.output

    async def _object(self, name: str) -> str | None:
        ran = await self._run("rev-parse", "--verify", "--quiet", name)
        found = ran.output.strip()
        return found if ran.code == 0 and COMMIT.fullmatch(found) else None

    async def _trouble(self, what: str, ran: Finished) -> Permanent | Temporary:
        here = str(self._folder) in ran.tail and any(words in ran.tail for words in _DAMAGE)
        if here or HEAD in ran.tail:
            await self._throw_away(ran.tail)
        return self._git.failed(what, ran)

    async def _throw_away(self, why: str) -> None:
        log.warning("git_copy_damaged", folder=str(self._folder), error=why)
        await self._disk.run(lambda: shutil.rmtree(self._folder, ignore_errors=True))
        raise Damaged(f"the copy of {self._git.url} in {self._folder} was damaged and is made again: {why}")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No other object on this folder changes the copy meanwhile: so what looks left over is."""
        async with self._one_at_a_time:
            lock = await self._disk.run(self._lock, undo=os.close)
            try:
                yield
            finally:
                os.close(lock)

    def _lock(self) -> int:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._state_dir / "copy.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise Temporary(f"another target is fetching into {self._folder}") from None
            raise
        os.utime(lock)
        return lock

    async def _open(self) -> None:
        """There is a copy, of this very repository."""
        if await self._disk.run(self._is_ours):
            return
        said = (await self._git.run("version")).output.strip()
        version = _VERSION.search(said)
        if version is None or (int(version[1]), int(version[2])) < OLDEST:
            raise Permanent(f"git: {said or 'this'} is too old, it has to be {OLDEST[0]}.{OLDEST[1]} or newer")
        ran = await self._git.run("init", "--bare", "--quiet", "--template=", str(self._folder))
        if ran.code != 0:
            raise Temporary(f"git init: cannot make {self._folder}: {ran.tail}")
        await self._disk.run(lambda: (self._folder / "url").write_text(self._git.url, encoding="ascii"))

    def _is_ours(self) -> bool:
        with suppress(FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            if (self._folder / "url").read_text(encoding="ascii") == self._git.url:
                return True
        if self._folder.exists():
            shutil.rmtree(self._folder)
        return False

    def _sweep(self) -> None:
        """Take away what a killed git left behind: locks nobody holds, halves of packs nobody writes any more."""
        for pattern in _LOCKS:
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)
        oldest = (self._state_dir / "copy.lock").stat().st_mtime - 2 * self._git.timeout
        for path in self._folder.glob("objects/pack/tmp_*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _clear_index(self) -> None:
        (self._state_dir / "empty").mkdir(exist_ok=True)
        for name in ("index", "index.lock"):
            (self._state_dir / name).unlink(missing_ok=True)
