"""What a branch of a repository says is what runs, and a revert is a commit on top of it (GitOps)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import quote

import structlog
from pydantic import AfterValidator, Field, model_validator

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.git_commit import MOST_NAMED, branch_of, message, one_line
from rollbackd.targets.git_history import Stay, newest
from rollbackd.targets.git_mirror import DEEPEST, ROOT, Damaged, Mirror, Pushed
from rollbackd.targets.git_program import Git, Remote
from rollbackd.targets.git_releases import Book, ImageField, Reader
from rollbackd.targets.keys import SpentKeys
from rollbackd.targets.versions import shown
from rollbackd.targets.watching import Poll, Sighting, deployments

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.git")

_ATTEMPTS = 5
"""How often a revert is built anew because others push to the branch, before that is the executor's to wait out."""

_FRESH = 5.0
"""For so many seconds, questions that are asked all the time are answered from the last look at the server."""

_RIGHTS_FRESH = 300.0
"""For so many seconds, the right to push is taken to last."""

_BRANCH = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_+#-]|[./](?![./]))*")


def _branch(name: str) -> str:
    if not _BRANCH.fullmatch(name) or name.endswith((".", "/", ".lock")):
        raise ValueError("write the branch's short name, such as main")
    return name


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or ".git" in parts or not path.isprintable():
        raise ValueError("write a path inside the repository, such as apps/checkout")
    return str(PurePosixPath(path))


class GitConfig(Remote):
    """What an operator writes under `target: {git: ...}`."""

    branch: Annotated[str, AfterValidator(_branch)] = "main"
    """The branch that is deployed."""
    path: Annotated[str, AfterValidator(_inside)] = ROOT
    """The folder or file that belongs to this service; left out, the whole repository.

    Only commits that touch it are releases, and a revert changes nothing else.
    """
    image: ImageField | None = None
    """What the metrics call the release, where that is a value in a manifest; left out, a release is its commit."""
    digits: Annotated[int, Field(ge=7, le=40)] = 40
    """How many digits of the commit name a release."""
    mode: Literal["push", "pull_request"] = "push"
    """Whether a revert is pushed to the branch, or to a branch of its own for somebody to merge."""
    link: str | None = None
    """An address for the commit's message, where people see why; `{key}` and `{service}` are filled in."""
    poll: Poll = 15.0
    """How often the server is asked for the branch's head."""
    depth: Annotated[int, Field(ge=10, le=DEEPEST)] = 1000
    """How many commits of the branch are fetched at first; more follow where they hold too few releases."""

    @model_validator(mode="after")
    def _manifest_is_reverted(self) -> GitConfig:
        if self.image is not None:
            file = _inside(self.image.file)
            if file == ROOT or (self.path != ROOT and not PurePosixPath(file).is_relative_to(self.path)):
                raise ValueError("the manifest `image.file` has to lie in `path`: a revert changes nothing else")
        return self


class GitBranch:
    """One service, as a branch of a repository says it is deployed."""

    def __init__(self, config: GitConfig, context: TargetContext) -> None:
        self._config = config
        self._service = context.service
        self._clock = context.clock
        self._disk = Disk(context.service)
        self._keys = SpentKeys(context.state_dir)
        self._git = Git(config)
        self._mirror = Mirror(self._git, self._disk, context.state_dir, config.branch, config.depth)
        self._reader = Reader(self._mirror, self._disk, config.path, config.digits, config.image, config.depth)
        self._seen: tuple[float, Book] | None = None
        self._may_push_at: float | None = None
        self._waits = ""

    # -- looking

    async def current(self) -> Release | None:
        book = await self._book()
        return None if book.current is None else self._release(book.current)

    async def history(self) -> list[Release]:
        found: dict[str, Release] = {}
        for stay in (await self._book(_FRESH)).listed:
            if stay.version is not None:
                found.setdefault(stay.version, self._release(stay))
        return list(found.values())

    def _release(self, stay: Stay) -> Release:
        version = str(stay.version)
        image = self._config.image
        digest = version if image is not None and image.part == "digest" else None
        return Release(version=version, digest=digest, commit=stay.commit, created_at=stay.at)

    async def _book(self, fresh: float = 0.0) -> Book:
        """What the branch says, as of at most `fresh` seconds ago."""
        if self._seen is not None and self._clock.monotonic() - self._seen[0] < fresh:
            return self._seen[1]
        try:
            return await self._look_again()
        except Damaged:  # it is made again at once, from what the server has
            return await self._look_again()

    async def _look_again(self) -> Book:
        at = self._clock.monotonic()
        head = await self._mirror.update()
        book = self._seen[1] if self._seen is not None else None
        if book is None or book.head != head:
            book = await self._reader.book(head)
        self._seen = (at, book)
        return book

    def changes(self) -> AsyncIterator[TargetChange]:
        return deployments(self._look, self._clock, self._config.poll, self._service)

    async def _look(self) -> Sighting | None:
        current = (await self._book()).current
        return None if current is None else Sighting(str(current.version), current.at)

    # -- whether it would work

    async def readiness(self, to: str) -> Readiness:
        found = [self._git.problem(), await self._disk.run(self._keys.problem)]
        if not any(found):
            try:
                found += await self._problems(to)
            except Permanent as error:
                found.append(str(error))
        return Readiness(problems=tuple(dict.fromkeys(problem for problem in found if problem)))

    async def _problems(self, to: str) -> list[str]:
        book = await self._book(_FRESH)
        found = [] if book.current else [f"nothing is deployed: {self._where} has no {self._config.path}"]
        if newest(book.listed, to) is None:
            found.append(f"{self._where} does not know release {shown(to)}")
        await self._try_to_push(book.head)
        return found

    async def _try_to_push(self, head: str) -> None:
        """Raises what a push would meet before the server's rules are asked: those only a real one finds out."""
        now = self._clock.monotonic()
        if self._may_push_at is not None and now - self._may_push_at < _RIGHTS_FRESH:
            return
        ref, expected = self._aim("probe", head)
        outcome, words = await self._mirror.push(head, ref, expected, dry=True)
        if outcome is Pushed.REFUSED:
            raise Permanent(f"{self._where} takes no push: {words}")
        self._may_push_at = now

    # -- reverting

    async def revert(self, order: RevertOrder) -> None:
        async with self._keys.exclusive(self._disk):
            before: str | None = None
            for _ in range(_ATTEMPTS):
                book = await self._book()
                if not await self._is_wanted(order, book):
                    return
                if before is not None and await self._mirror.touched(before, book.head, self._config.path):
                    raise Conflict(
                        f"{self._config.path} was changed on {self._where} meanwhile: somebody else deployed"
                    )
                before = book.head
                if await self._put(order, book):
                    return
        raise Temporary(f"{self._where} was pushed to {_ATTEMPTS} times by others while this revert was made")

    async def wanted(self, order: RevertOrder) -> bool:
        """Whether `revert` would push something. Raises Conflict where it would."""
        return await self._is_wanted(order, await self._book())

    async def _is_wanted(self, order: RevertOrder, book: Book) -> bool:
        """Whether there is something to do. The branch itself remembers which orders were carried out."""
        done = await self._mirror.with_key(book.head, one_line(order.key))
        version = book.version
        if done is not None:
            if await self._mirror.touched(done, book.head, self._config.path):
                raise Conflict(
                    f"key {order.key} is spent: {version or 'nothing'} was deployed since commit {done[:12]}"
                )
            return False
        if version == order.to:
            log.info("already_reverted", service=self._service, version=order.to, head=book.head)
            return False
        if version != order.expect:
            raise Conflict(f"{version or 'nothing'} is on {self._where}, not {order.expect}: somebody else deployed")
        return True

    async def _put(self, order: RevertOrder, book: Book) -> bool:
        """Push the revert on top of what was read; False where the branch has moved on."""
        config = self._config
        good = newest(book.listed, order.to)
        if good is None:
            raise Permanent(f"{self._where} does not know release {shown(order.to)}, so it is not put in place")
        ref, expected = self._aim(order.key, book.head)
        if config.mode == "pull_request" and ref in await self._mirror.refs(ref):
            self._say_it_waits(ref)
            return True
        undone = await self._mirror.between(good.last, book.head, config.path, MOST_NAMED + 1)
        text = message(self._service, order, good, config.path, undone, self._link(order))
        commit = await self._mirror.commit(book.head, good.last, config.path, text)
        if not await self._push(order, commit, ref, expected):
            return False
        log.info("revert_pushed", service=self._service, version=order.to, was=order.expect, commit=commit, ref=ref)
        if config.mode == "pull_request":
            self._say_it_waits(ref)
        return True

    async def _push(self, order: RevertOrder, commit: str, ref: str, expected: str) -> bool:
        try:
            outcome, words = await self._mirror.push(commit, ref, expected)
        except Temporary:
            # cut off in the middle: the server alone knows whether it took it
            if await self._landed(order, ref):
                return True
            raise
        finally:
            self._seen = None
        if outcome is Pushed.REFUSED:
            cure = "allow this account to push there"
            if self._config.mode == "push":
                cure += ", or write `mode: pull_request`"
            raise Permanent(
                f"{self._git.url} does not let {ref.removeprefix('refs/heads/')} be changed: {cure}; it said: {words}"
            )
        return outcome is Pushed.DONE

    async def _landed(self, order: RevertOrder, ref: str) -> bool:
        try:
            if self._config.mode == "pull_request":
                return ref in await self._mirror.refs(ref)
            return await self._mirror.with_key(await self._mirror.update(), one_line(order.key)) is not None
        except RollbackdError:
            return False

    def _aim(self, key: str, head: str) -> tuple[str, str]:
        """The ref to push to, and what it has to be before: in a branch of our own, nothing."""
        if self._config.mode == "pull_request":
            return f"refs/heads/{branch_of(key)}", ""
        return f"refs/heads/{self._config.branch}", head

    def _link(self, order: RevertOrder) -> str | None:
        if self._config.link is None:
            return None
        filled = self._config.link.replace("{key}", quote(order.key, safe="", errors="replace"))
        return one_line(filled.replace("{service}", quote(self._service, safe="", errors="replace")))

    def _say_it_waits(self, ref: str) -> None:
        branch = ref.removeprefix("refs/heads/")
        self._waits = f"branch {branch} at {self._git.url} waits for you to merge it into {self._config.branch}"
        log.warning("revert_waits_for_merge", service=self._service, branch=branch)

    async def settled(self, to: str) -> bool:
        if (await self._book(_FRESH)).version == to:
            return True
        if self._config.mode == "pull_request":
            raise Temporary(self._waits or f"the revert's branch rollbackd/... waits to be merged into {self._where}")
        return False

    async def head(self) -> str:
        """The branch's newest commit, as of a few seconds ago."""
        return (await self._book(_FRESH)).head

    async def close(self) -> None:
        self._disk.close()

    @property
    def _where(self) -> str:
        return f"branch {self._config.branch} of {self._git.url}"
