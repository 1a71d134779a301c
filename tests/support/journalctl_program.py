"""Stands in for journalctl: SOCKET ARGUMENTS. Says what the far side at the socket tells it to, and ends when told."""

from __future__ import annotations

import json
import socket
import sys


def main(path: str, *arguments: str) -> int:
    with socket.socket(socket.AF_UNIX) as far_side:
        far_side.connect(path)
        far_side.sendall(json.dumps(arguments).encode() + b"\n")
        for line in far_side.makefile("rb"):
            said = json.loads(line)
            if "exit" in said:
                sys.stderr.write(said["error"])
                return int(said["exit"])
            sys.stdout.write(said["print"])
            sys.stdout.flush()
            far_side.sendall(b".")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
