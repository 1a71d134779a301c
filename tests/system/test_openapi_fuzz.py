"""The served API is what its OpenAPI document says: requests that fit it, and such that do not, made by schemathesis.

The short form; `make fuzz` is the long one.
"""

from __future__ import annotations

import pytest

from tools.fuzz_api import hold

BROKEN_ENOUGH = "^/(readyz|hooks/alertmanager|v1/logs|api/v1/(audit|pause|deployments|services/.*/rollback))$"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", "secret")


@pytest.mark.timeout(240)
async def test_every_operation_keeps_to_the_document() -> None:
    code, printed = await hold(1, options=["--phases", "coverage"])
    assert code == 0, printed


@pytest.mark.timeout(240)
async def test_so_it_does_while_the_ledger_cannot_be_reached() -> None:
    chosen = ["--phases", "coverage", "--include-path-regex", BROKEN_ENOUGH]
    code, printed = await hold(1, broken=True, options=chosen)
    assert code == 0, printed
