"""The rules of the house: who may import whom, what a module looks like, and what the core may not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollbackd import registry
from tests.support import architecture
from tests.support.architecture import Module

ROOT = Path(__file__).parents[2]
MODULES = architecture.modules(ROOT / "rollbackd")
PURE = ("rollbackd.model.", "rollbackd.errors.", "rollbackd.detect.", "rollbackd.decide.", "rollbackd.engine.")

Rule = Callable[[Module], Iterator[str]]


def violations(rule: Rule, among: list[Module]) -> list[str]:
    return [violation for module in among for violation in rule(module)]


def test_imports_keep_the_contracts() -> None:
    """The contracts of .importlinter; the failure shows which chain of imports broke one."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_module_says_what_it_is_for() -> None:
    assert violations(architecture.without_docstring, MODULES) == []


def test_no_module_is_too_long() -> None:
    assert violations(architecture.too_long, MODULES) == []


def test_no_function_imports() -> None:
    assert violations(architecture.imports_inside_functions, MODULES) == []


def test_the_core_touches_nothing() -> None:
    core = [module for module in MODULES if f"{module.name}.".startswith(PURE)]
    assert len(core) >= len(PURE)
    assert violations(architecture.impurities, core) == []


def test_every_registered_adapter_is_protected_by_the_import_contract() -> None:
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8").partition("protected_modules =")[2]
    protected = set(contract.partition("allowed_importers")[0].split())
    assert protected == {module for adapters in registry.BUILTIN.values() for module in adapters.values()}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (architecture.without_docstring, "x = 1\n"),
        (architecture.too_long, "#\n" * (architecture.MOST_LINES + 1)),
        (architecture.imports_inside_functions, "def f():\n    if True:\n        from a import b\n"),
        (architecture.imports_inside_functions, "class A:\n    async def f(self):\n        import a\n"),
        (architecture.impurities, "t = time.monotonic()\n"),
        (architecture.impurities, "t = datetime.now(UTC)\n"),
        (architecture.impurities, "x = random.random()\n"),
        (architecture.impurities, "with open('x') as f: pass\n"),
        (architecture.impurities, "x = Path('x').read_text()\n"),
    ],
)
def test_each_rule_catches_its_violation(rule: Rule, source: str) -> None:
    """A guard that cannot fail guards nothing."""
    assert list(rule(Module("sample", source))) != []


def test_what_is_allowed_is_let_through() -> None:
    innocent = Module(
        "sample", '"""Says what it is for."""\n\nimport math\n\n\ndef f(now):\n    return math.log(now)\n'
    )
    rules: list[Rule] = [
        architecture.without_docstring,
        architecture.too_long,
        architecture.imports_inside_functions,
        architecture.impurities,
    ]
    assert [violation for rule in rules for violation in rule(innocent)] == []
