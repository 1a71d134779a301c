"""The same, led by coverage: libFuzzer, through the package `atheris`, keeps inputs that reach code not reached before.

The package has wheels for some interpreters and platforms only, so no lock has it: `pip install atheris`. Modules have
to be instrumented as they are imported, and libFuzzer ends its process: so each run is a process of its own.
"""

from __future__ import annotations

import importlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import msgspec

from tools.fuzz_examiner import Examined, Examiner, alarmed
from tools.fuzz_mutator import LONGEST, Mutator

RESULT = "result.json"


def start(name: str, inputs: int, seed: str) -> Examined:
    """Run a process for so many inputs, and give what it found. Raises RuntimeError where it did not come to an end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tools.fuzz_atheris", name, str(inputs), seed, folder]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        result = Path(folder, RESULT)
        if not result.exists():
            raise RuntimeError(f"atheris ended with {ran.returncode}: {ran.stderr[-1000:]}")
        return msgspec.json.decode(result.read_bytes(), type=Examined)


def _work(name: str, inputs: int, seed: str, folder: Path) -> None:
    atheris: ModuleType = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["rollbackd"], enable_loader_override=False):
        table = importlib.import_module("tests.fuzz.table")
    parser = table.PARSERS[name]
    examiner = Examiner(parser)
    mutator = Mutator(parser.seeds, parser.shape, parser.words, f"{name} {seed}")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(parser.seeds):
        (corpus / str(number)).write_bytes(data)

    def take(data: bytes) -> None:
        examiner.take(data)
        if examiner.done.inputs >= inputs:
            (folder / RESULT).write_bytes(msgspec.json.encode(examiner.finished()))
            os._exit(0)  # libFuzzer would end the process without a word

    def mutate(data: bytes, most: int, chance: int) -> bytes:
        changed: bytes = mutator.changed(data) if chance & 1 else atheris.Mutate(data, most)
        return changed[:most]

    arguments = [
        "fuzz",
        f"-seed={random.Random(seed).randrange(1, 2**31)}",
        f"-max_len={LONGEST}",
        "-rss_limit_mb=0",
        "-timeout=0",
        "-len_control=0",
    ]
    atheris.Setup([*arguments, str(corpus)], take, custom_mutator=mutate)
    with alarmed():
        atheris.Fuzz()


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
