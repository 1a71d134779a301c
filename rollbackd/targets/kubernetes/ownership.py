"""What an operator writes about those who look after a workload: under `owners:`, one field for each tool."""

from __future__ import annotations

from rollbackd.fields import Model
from rollbackd.targets.kubernetes.helm_program import HelmOptions


class OwnersConfig(Model):
    """How reverts go over the tools that look after a workload."""

    helm: HelmOptions = HelmOptions()
    """Helm releases, which are reverted by `helm rollback`."""
