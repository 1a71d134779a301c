"""What the demo sees of the daemon: the same HTTP API that everybody uses."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from rollbackd.demo.processes import DemoFailed
from rollbackd.web.views import DecisionView, DeploymentView, RollbackView, ServiceView

T = TypeVar("T")


class Daemon:
    """A client of the daemon at `url`, for one service."""

    def __init__(self, url: str, service: str) -> None:
        self._url, self._service = url, service
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def service(self) -> ServiceView | None:
        """How the service stands; None while the daemon does not answer."""
        return await self._get(f"services/{self._service}", ServiceView)

    async def found_good(self, version: str) -> bool:
        """Whether the release finished its bake good."""
        views = await self._get(f"deployments?service={self._service}", list[DeploymentView]) or []
        return any(view.version == version and view.state == "good" for view in views)

    async def decisions(self) -> list[DecisionView]:
        """Decisions about the service, newest first; empty while the daemon does not answer."""
        return await self._get(f"decisions?service={self._service}", list[DecisionView]) or []

    async def rollbacks(self) -> list[RollbackView]:
        """Rollbacks of the service, newest first; empty while the daemon does not answer."""
        return await self._get(f"rollbacks?service={self._service}", list[RollbackView]) or []

    async def _get(self, path: str, kind: type[T]) -> T | None:
        assert self._http is not None  # noqa: S101  used inside `async with`
        try:
            async with self._http.get(f"{self._url}/api/v1/{path}") as answer:
                body = await answer.read()
                if answer.status != 200:
                    return None
        except (aiohttp.ClientError, TimeoutError):
            return None
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise DemoFailed(f"the daemon's answer to {path} is not as documented: {error}") from None
