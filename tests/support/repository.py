"""A real bare git repository as a server keeps it, and commits made in it by others, with plumbing and no hooks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_CLEAN = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{role}_NAME": "dev" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "dev@example.com" for role in ("AUTHOR", "COMMITTER")},
}


class Repository:
    """A bare repository in a folder that may not exist yet. Dates rise by a minute with each commit."""

    def __init__(self, folder: Path, *, branch: str = "main") -> None:
        self.folder = folder
        self.branch = branch
        self.clock = 1_700_000_000
        if not folder.exists():
            self.git("init", "--bare", "--quiet", "--template=", "-b", branch, str(folder), inside=False)
            self.git("config", "uploadpack.allowFilter", "true")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(
        self, *arguments: str, stdin: str = "", inside: bool = True, variables: Mapping[str, str] | None = None
    ) -> str:
        where = [f"--git-dir={self.folder}"] if inside else []
        ran = subprocess.run(
            ["git", *where, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**_CLEAN, **(variables or {})},
            timeout=30,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    @property
    def head(self) -> str:
        return self.git("rev-parse", f"refs/heads/{self.branch}")

    def commit(
        self,
        files: Mapping[str, str | None],
        message: str = "change",
        *,
        on: str | None = None,
        merging: str | None = None,
        branch: str | None = None,
    ) -> str:
        """A commit with these files changed (None takes one away), on top of `on`, and the branch there."""
        branch = branch or self.branch
        refs = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        parent = on or refs or None
        index = {"GIT_INDEX_FILE": str(self.folder.with_suffix(".index")), "GIT_WORK_TREE": str(self.folder)}
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
        if parent:
            self.git("read-tree", parent, variables=index)
        for name, text in files.items():
            if text is None:
                self.git("update-index", "--force-remove", name, variables=index)
            else:
                blob = self.git("hash-object", "-w", "--stdin", stdin=text)
                self.git("update-index", "--add", "--replace", "--cacheinfo", f"100644,{blob},{name}", variables=index)
        tree = self.git("write-tree", variables=index)
        self.clock += 60
        dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"{self.clock} +0000")
        parents = [word for one in (parent, merging) if one for word in ("-p", one)]
        made = self.git("commit-tree", tree, *parents, "-F", "-", stdin=message, variables=dates)
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def at(self, commit: str, path: str) -> str:
        """The object at this path, as its hash; "" where there is none."""
        listed = self.git("ls-tree", commit, "--", path).split()
        return listed[2] if listed else ""

    def text(self, path: str, commit: str | None = None) -> str:
        return self.git("cat-file", "blob", f"{commit or self.head}:{path}")

    def trailers(self, commit: str | None = None) -> dict[str, str]:
        lines = self.git("log", "-1", "--format=%(trailers:only,unfold)", commit or self.head).splitlines()
        return {name: value for name, _, value in (line.partition(": ") for line in lines) if name}

    def hook(self, name: str, body: str) -> None:
        """What the server runs at a push (githooks(5))."""
        path = self.folder / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(f"#!/bin/sh\n{body}\n")
        draft.chmod(0o755)
        draft.replace(path)
