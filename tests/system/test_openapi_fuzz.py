"""The served API is what its OpenAPI document says: requests that fit it, and such that do not, made by schemathesis.

The short form; `make fuzz` is the long one, and looks at a daemon that cannot reach its ledger as well.
"""

from __future__ import annotations

import pytest

from tools.fuzz_api import hold


@pytest.mark.timeout(240)
async def test_every_operation_keeps_to_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", "secret")
    code, printed = await hold(1, options=["--phases", "coverage"])
    assert code == 0, printed
