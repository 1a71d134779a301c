"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rollbackd.cli.client import DEFAULT_URL, Client, read_token


def add_client(parser: argparse.ArgumentParser) -> None:
    """Where the daemon is, and who asks."""
    group = parser.add_argument_group("the daemon")
    group.add_argument("--url", metavar="URL", help=f"its address (ROLLBACKD_URL; else {DEFAULT_URL})")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="a file with a token (or set ROLLBACKD_TOKEN)")


def add_output(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=["text", "json"], default="text", help="for people, or for programs")
    add_color(group)


def add_color(group: argparse._ActionsContainer) -> None:
    """Whether to use colours."""
    group.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )


def client(options: argparse.Namespace) -> Client:
    """The client that the options ask for. Raises Usage."""
    url = options.url or os.environ.get("ROLLBACKD_URL", "").strip() or DEFAULT_URL
    return Client(url, read_token(options.token_file))


def print_json(answer: bytes) -> int:
    """Print an answer of the API as it is, and a line's end."""
    sys.stdout.write(answer.decode("utf-8").rstrip("\n") + "\n")
    return 0


def at_least_one(text: str) -> int:
    """A whole number above nothing, for argparse."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is no number from 1 up")
    return number
