"""Keeps foreign web pages from using a visitor's browser against us: cross-site requests and DNS rebinding.

A page on another site can make a browser on our machine send us requests; one whose name was rebound to our address can
even read the answers. Both show in the Origin and Host headers, which a page cannot forge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from rollbackd.web.errors import HttpError


class HostPolicy:
    """Which names this server goes by: IP addresses, `localhost`, and what the operator allows beside."""

    def __init__(self, allowed: Callable[[], frozenset[str]]) -> None:
        self._allowed = allowed

    def check_origin(self, request: web.Request) -> None:
        """Refuse (HttpError 403) a request that a foreign page made a browser send. For what changes state."""
        origin = request.headers.get("Origin")
        if origin is None:
            return
        name, here = _name(origin), request.headers.get("Host", "").lower()
        same = origin.lower().partition("://")[2] == here and self._trusted(name)
        if not same and not self._is_allowed(name):
            message = "a page of another site sent this; if that site is yours, add its host to `auth.allowed_hosts`"
            raise HttpError(403, "foreign_origin", message)

    def check_host(self, request: web.Request) -> None:
        """Refuse (HttpError 421) a request to a loopback address under a name that is none of ours.

        Meant for requests without a credential: a rebound page has none, and who has one may call us what they like.
        """
        sockname = request.get_extra_info("sockname")
        if not isinstance(sockname, tuple) or not _is_loopback(str(sockname[0])):
            return
        name = _name("//" + request.headers.get("Host", ""))
        if not self._trusted(name):
            message = (
                f"this server is not called `{name}`: use localhost, send a token, or add it to `auth.allowed_hosts`"
            )
            raise HttpError(421, "foreign_host", message)

    def _is_allowed(self, name: str) -> bool:
        return any(name == allowed.lower() for allowed in self._allowed())

    def _trusted(self, name: str) -> bool:
        if self._is_allowed(name) or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
