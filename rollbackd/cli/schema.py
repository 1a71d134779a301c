"""`rollbackd schema`: the JSON Schema of the configuration file, for editors and for other checks."""

from __future__ import annotations

import argparse
import json

from rollbackd import registry
from rollbackd.cli.command import OK, Commands
from rollbackd.config.json_schema import json_schema


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "schema",
        description="Print the JSON Schema (draft 2020-12) of the configuration file. An editor that knows YAML "
        "completes and checks with it: put `# yaml-language-server: $schema=FILE` at the top of the configuration.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:  # noqa: ARG001  every command takes its options
    """Print the schema."""
    print(json.dumps(json_schema(registry), indent=2))
    return OK
