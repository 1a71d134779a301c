"""Target `git`: what a branch of a repository says is what runs, and a revert is a commit on top of it (GitOps)."""

from __future__ import annotations

from rollbackd.adapter import Adapter
from rollbackd.targets.base import Target, TargetContext
from rollbackd.targets.git_branch import GitBranch, GitConfig


def build(config: GitConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is fetched before it is used."""
    return GitBranch(config, context)


ADAPTER: Adapter[GitConfig, TargetContext, Target] = Adapter(GitConfig, build, shorthand="url")
