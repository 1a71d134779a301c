"""A small helm, for where the real one is not built: `history`, `get manifest` and `rollback` of one release.

Its state is a folder: `history.json`, a line for each call in `calls`, what to do wrong in `fault`. A rollback puts the
template of that revision's Deployment into the small Kubernetes of tests/support/kube_server.py, as helm does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Failed(Exception):
    """helm ends with 1, having printed this and, before it, an error."""


def main(folder: Path, arguments: list[str], environment: dict[str, str]) -> str:
    """What helm prints. Raises Failed."""
    with (folder / "calls").open("a") as calls:
        seen = {name: value for name, value in environment.items() if name.startswith(("HELM_", "KUBE"))}
        calls.write(json.dumps({"arguments": arguments, "environment": seen}) + "\n")
    history: list[dict[str, Any]] = json.loads((folder / "history.json").read_text())
    fault = (folder / "fault").read_text() if (folder / "fault").exists() else ""
    match arguments:
        case ["history", "shop", *_]:
            if fault.startswith("say "):
                raise Failed("", fault.removeprefix("say "))
            hidden = [{name: value for name, value in one.items() if name != "manifest"} for one in history]
            return "{]" if fault == "garbage" else json.dumps(hidden)
        case ["get", "manifest", "shop", "--revision", revision, *_]:
            manifest: str = next(one for one in history if one["revision"] == int(revision))["manifest"]
            if fault == "cut":
                raise Failed(manifest, "unexpected EOF")
            return manifest
        case ["rollback", "shop", revision, *_]:
            return roll_back(folder, history, int(revision), fault)
        case _:
            raise Failed("", f"unknown command {arguments}")


def roll_back(folder: Path, history: list[dict[str, Any]], to: int, fault: str) -> str:
    if fault == "refuse":
        raise Failed("", "cannot connect")
    then = next(one for one in history if one["revision"] == to)
    new = then | {
        "revision": history[-1]["revision"] + 1,
        "status": "pending-rollback",
        "description": f"Rollback to {to}",
        "updated": datetime.now(UTC).isoformat(),
    }
    history.append(new)
    write(folder, history)
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(60)
    place = json.loads((folder / "place.json").read_text())
    body = [{"op": "replace", "path": "/spec/template", "value": json.loads(then["manifest"])["spec"]["template"]}]
    headers = {"Authorization": f"Bearer {place['token']}", "Content-Type": "application/json-patch+json"}
    request = urllib.request.Request(place["url"], json.dumps(body).encode(), headers, method="PATCH")
    with urllib.request.urlopen(request, timeout=10):
        pass
    for one in history:
        one["status"] = "superseded" if one["status"] == "deployed" else one["status"]
    new["status"] = "deployed"
    write(folder, history)
    return "Rollback was a success! Happy Helming!"


def write(folder: Path, history: list[dict[str, Any]]) -> None:
    draft = folder / "history.new"
    draft.write_text(json.dumps(history))
    draft.replace(folder / "history.json")


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), sys.argv[2:], dict(os.environ)))
    except Failed as failed:
        print(failed.args[0], flush=True)
        print(f"Error: {failed.args[1]}", file=sys.stderr)
        sys.exit(1)
