"""The program `git` as a child process: nobody's settings but ours, credentials out of sight, errors in our own words.

What each variable and setting does: https://git-scm.com/docs/git, https://git-scm.com/docs/git-config.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from rollbackd.errors import Permanent, Temporary
from rollbackd.fields import Model, Secret
from rollbackd.targets.process import Commands, Finished, Timeout

OLDEST = (2, 31)
"""The first version that takes settings from GIT_CONFIG_COUNT, where nobody else on the machine sees them."""

_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][\w.-]*:(?!//)[^\s:].*")
_PLAIN = re.compile(r"[!-~]+")
_NAME = re.compile(r"[^<>\n\0]+")

# git takes each answer `name=value` for one field: https://git-scm.com/docs/gitcredentials
_HELPER = (
    '!f() { test "$1" = get || exit 0; printf "username=%s\\npassword=%s\\n"'
    ' "$ROLLBACKD_GIT_USER" "$ROLLBACKD_GIT_TOKEN"; }; f'
)
"""`printf` is the shell's own, so the token is never an argument of a process."""

_CURES = (
    ("Host key verification failed", "put the server's host key into `known_hosts` (ssh-keyscan prints it)"),
    ("Permission denied (publickey", "the server does not take the ssh key: allow it there"),
    ("UNPROTECTED PRIVATE KEY FILE", "the ssh key's file is open to others: chmod 600"),
    ("marked as read only", "allow this key to write"),
    ("Authentication failed", "the token is wrong or has expired: renew it"),
    ("could not read Username", "the server wants a login: give a `token`"),
    ("could not read Password", "the server wants a login: give a `token`"),
    ("error: 401", "the token is wrong or has expired: renew it"),
    ("error: 403", "the account may not do that: give it the right to read and write the repository"),
    ("denied to", "the account may not do that: give it the right to read and write the repository"),
    ("not allowed to push", "the account may not do that: give it the right to read and write the repository"),
    ("SSL certificate problem", "name the authority that signed the server's certificate in `ca`"),
    ("certificate verification failed", "name the authority that signed the server's certificate in `ca`"),
    ("dubious ownership", "a repository on this machine has to belong to the daemon's user"),
    ("epository not found", "there is none at `url`, or the account may not see it"),
    ("does not appear to be a git repository", "there is none at `url`"),
    ("' not found", "there is none at `url`, or the account may not see it"),
)
"""What git and the well-known servers say where trying again does not help, and what does."""


def _url(value: str) -> str:
    if not _PLAIN.fullmatch(value) or value.startswith("-"):
        raise ValueError("a repository's URL is printable ASCII without spaces")
    if value.startswith("/") or (_SCP.fullmatch(value) and "://" not in value):
        return value
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("this is no URL: write git@host:team/repository.git or https://host/team/repository") from None
    if parts.password is not None or (parts.scheme == "https" and parts.username is not None):
        raise ValueError("no credentials in the URL: write the password as `token`, its user as `username`")
    if parts.scheme == "http":
        raise ValueError("http would show the token to everybody on the way: write https")
    if parts.scheme not in ("https", "ssh", "file") or (parts.scheme != "file" and not parts.hostname):
        raise ValueError("write git@host:team/repository.git, ssh://, https:// or file://")
    return value


def _person(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("git takes no <, > or line break in a name or an address")
    return value


Url: TypeAlias = Annotated[str, AfterValidator(_url)]
"""Where a repository is: `git@host:path`, `ssh://`, `https://`, `file://` or an absolute path. Without a password."""

Person: TypeAlias = Annotated[str, AfterValidator(_person)]
"""A name or an e-mail address, as a commit holds it."""


class Author(Model):
    """Who the commits are by."""

    name: Person = "rollbackd"
    """The name."""
    email: Person = "rollbackd@localhost"
    """The e-mail address; some servers accept only one that they know."""


class Remote(Model):
    """Where the repository is, and how to get in."""

    url: Url
    """`git@host:team/repository.git`, `ssh://`, `https://`, `file://` or an absolute path."""
    ssh_key: Path | None = None
    """The private key for ssh, without a passphrase; left out, those of the daemon's user."""
    known_hosts: Path | None = None
    """The server's host key for ssh; left out, those that the daemon's user knows. An unknown host is never trusted."""
    token: Secret | None = None
    """The password for https: an access token."""
    username: Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]+$")] = "x-access-token"
    """The user for https. GitHub and GitLab take any where the password is an access token; Bitbucket does not."""
    ca: Path | None = None
    """The certificate authority for https, as PEM; left out, those the system trusts."""
    author: Author = Author()
    """Who the commits are by."""
    timeout: Timeout = 120.0
    """How long one git command may take."""

    @property
    def scheme(self) -> str:
        """ssh, https or file."""
        if self.url.startswith("/"):
            return "file"
        return self.url.partition("://")[0] if "://" in self.url else "ssh"

    @model_validator(mode="after")
    def _fits_its_url(self) -> Remote:
        if self.token is not None and self.scheme == "ssh":
            raise ValueError("`token` is for https; an ssh URL goes with `ssh_key`")
        if (self.ssh_key or self.known_hosts) and self.scheme != "ssh":
            raise ValueError("`ssh_key` and `known_hosts` are for an ssh URL; https goes with `token`")
        return self


class Git:
    """Runs git against one repository."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._commands = Commands(_environment(remote))

    @property
    def url(self) -> str:
        """The repository's URL, which holds no secret."""
        return self._remote.url

    @property
    def timeout(self) -> float:
        """How long one command may take, in seconds."""
        return self._remote.timeout

    async def run(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Finished:
        """Run one git command to its end; its exit code is the caller's to judge.

        Raises Temporary where it does not end in time, Permanent where it cannot be started.
        """
        label = next(one for one in arguments if not one.startswith("-"))
        token = self._remote.token
        if token is not None and "\n" in token.reveal():
            raise Permanent(f"git {label}: the token has a line break in the middle: a token is one line")
        return await self._commands.run(f"git {label}", ("git", *arguments), self._remote.timeout, variables)

    def problem(self) -> str | None:
        """Why git would not even start, or would find no credentials, as a sentence."""
        for name, file in (("ssh_key", self._remote.ssh_key), ("known_hosts", self._remote.known_hosts)):
            if file is not None and not file.is_file():
                return f"git: there is no file {file}, which `{name}` names"
        return self._commands.problem("git", ("git",))

    def failed(self, what: str, ran: Finished) -> Permanent | Temporary:
        """What a command that talked to the server and ended with a code means. Unknown faults pass."""
        said = ran.tail or f"git ended with exit code {ran.code}"
        for words, cure in _CURES:
            if words in ran.tail:
                return Permanent(f"{what} {self.url}: {cure}; git said: {said}")
        return Temporary(f"{what} {self.url}: {said}")


def _environment(remote: Remote) -> dict[str, str | Secret]:
    settings = {
        "remote.origin.url": remote.url,
        "core.hooksPath": "/dev/null",
        "core.fsmonitor": "false",
        "core.askPass": "",
        "credential.helper": "",
        "fetch.recurseSubmodules": "false",
        # housekeeping ends with the command that began it, in the same process group
        "gc.autoDetach": "false",
        "maintenance.autoDetach": "false",
        "push.gpgSign": "false",
        # a connection that has gone dead is given up before our own time limit, which would say less
        "http.lowSpeedLimit": "100",
        "http.lowSpeedTime": "30",
    }
    own: dict[str, str | Secret] = {
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": remote.scheme,
        "GIT_SSH_COMMAND": _ssh(remote),
        "GIT_SSH_VARIANT": "ssh",
    }
    for role in ("AUTHOR", "COMMITTER"):
        own[f"GIT_{role}_NAME"], own[f"GIT_{role}_EMAIL"] = remote.author.name, remote.author.email
    if remote.ca is not None:
        settings["http.sslCAInfo"] = str(remote.ca)
    if remote.token is not None:
        own |= {"ROLLBACKD_GIT_USER": remote.username, "ROLLBACKD_GIT_TOKEN": remote.token}
        if remote.scheme == "https":
            parts = urlsplit(remote.url)
            # for this server alone: wherever it redirects to gets no token
            settings[f"credential.https://{parts.netloc}.helper"] = _HELPER
    own["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        own |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return own


def _ssh(remote: Remote) -> str:
    """The ssh command: it never asks, and trusts no host that is not known (ssh_config(5))."""
    words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"]
    words += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
    if remote.known_hosts is not None:
        words += ["-o", f'UserKnownHostsFile="{remote.known_hosts}"', "-o", "GlobalKnownHostsFile=/dev/null"]
    if remote.ssh_key is not None:
        words += ["-o", "IdentitiesOnly=yes", "-i", str(remote.ssh_key)]
    return shlex.join(words)
