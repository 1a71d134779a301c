"""A service of which nothing is known but what it logs: the first release is well, the second one complains."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.inside import Inside
from tests.support.live import Shelf

SCRIPTS = {
    "v1": "n=0; while true; do n=$((n + 1)); echo INFO served $n; {nap}; done",
    "v2": "n=0; while true; do n=$((n + 1)); echo INFO served $n; echo ERROR cart is broken beyond repair; {nap}; done",
}

TIMES = {"bake": "40s", "warmup": "1s", "verify_for": "2s", "verify_within": "30s"}
"""Short enough for the real time in which a service's own stamps pass."""


class Talker(Shelf):
    """Its releases are shell scripts, which sleep a tenth of a second by the command `nap`."""

    def __init__(self, home: Path, name: str, nap: str) -> None:
        super().__init__(home, name)
        for version, script in SCRIPTS.items():
            (self.folder / "releases" / version / "app").write_text(script.format(nap=nap))

    def restarts_by(self, *commands: str) -> None:
        """What puts the release in place to work, whoever put it there."""
        self.restart.write_text("\n".join([*commands, self.restart.read_text()]))

    def restarted(self) -> None:
        """Run the restart command."""
        subprocess.run(["sh", str(self.restart)], check=True, capture_output=True, timeout=60)

    def block(self, source: str) -> str:
        """Its part of a configuration, with this one source."""
        written = {
            "target": f'{{release_dir: {{path: {self.folder}, restart: "sh {self.restart}", poll: 200ms}}}}',
            "sources": f"[{source}]",
            **TIMES,
        }
        return "\n".join([f"  {self.name}:", *(f"    {key}: {value}" for key, value in written.items())])


async def is_reverted(daemon: Inside, talker: Talker) -> None:
    """The second release is deployed, convicted by its log alone, taken back, and silent afterwards."""
    await daemon.until_known(talker.name, looks=50)
    talker.deploy("v2")
    talker.restarted()
    await daemon.until_watching("v2", talker.name)
    rollback = await daemon.ended(talker.name)
    assert (rollback.state, talker.in_place) == ("verified", "v1"), rollback
    [view] = await daemon.decisions(talker.name)
    decision = view.decision
    assert (decision.action, decision.version, decision.to, decision.rule) == ("rollback", "v2", "v1", "log_signature")
    assert "cart is broken beyond repair" in decision.reason
