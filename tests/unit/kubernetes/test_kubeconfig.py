"""Which API server a kubeconfig, the environment or a pod leads to, and as whom."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollbackd.errors import ConfigError, RollbackdError
from rollbackd.kubernetes.kubeconfig import ClusterOptions, Identity, identity

CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "shop",
    "clusters": [{"name": "eu", "cluster": {"server": "https://eu.test:6443/", "certificate-authority": "ca.pem"}}],
    "users": [{"name": "robot", "user": {"token": "sesame"}}],
    "contexts": [
        {"name": "shop", "context": {"cluster": "eu", "user": "robot", "namespace": "shop"}},
        {"name": "bare", "context": {"cluster": "eu", "user": "robot"}},
        {"name": "lost", "context": {"cluster": "mars", "user": "robot"}},
    ],
}


def write(folder: Path, content: object = CONFIG, name: str = "config") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(b"an authority")
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def read(path: Path | None, context: str | None = None, **environment: str) -> Identity:
    return identity(ClusterOptions(kubeconfig=path, context=context), environment, Path("/nonexistent"))


def test_the_current_context_is_used(tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert (found.server, found.namespace, found.token) == ("https://eu.test:6443", "shop", "sesame")
    assert found.ca == b"an authority", "relative to the file, not to where we run"


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    assert read(write(tmp_path), "bare").namespace == "default"


def test_files_are_merged_and_the_first_to_name_something_wins(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"users": [{"name": "robot", "user": {"token": "first"}}]})
    second = write(tmp_path / "b")
    found = read(None, KUBECONFIG=f"{first}:{second}:{tmp_path / 'none'}")
    assert (found.token, found.namespace) == ("first", "shop")


def test_inline_data_wins_over_files(tmp_path: Path) -> None:
    user = {"client-certificate-data": b64encode(b"cert").decode(), "client-key": "key.pem", "client-certificate": "no"}
    path = write(tmp_path, CONFIG | {"users": [{"name": "robot", "user": user}]})
    (tmp_path / "key.pem").write_bytes(b"key")
    found = read(path)
    assert (found.certificate, found.key) == (b"cert", b"key")


def test_in_a_pod_its_service_account_is_used(tmp_path: Path) -> None:
    for name, content in {"token": "t", "ca.crt": "ca", "namespace": "shop"}.items():
        (tmp_path / name).write_text(content)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "HOME": "/nonexistent"}
    found = identity(ClusterOptions(), environment, tmp_path)
    assert (found.server, found.namespace, found.ca) == ("https://[fd00::1]:6443", "shop", b"ca")
    assert found.token_file == tmp_path / "token"


def test_at_home_the_usual_file_is_used(tmp_path: Path) -> None:
    write(tmp_path / ".kube")
    assert read(None, HOME=str(tmp_path)).namespace == "shop"


def test_without_any_credentials_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="set `kubeconfig`"):
        read(None, HOME="/nonexistent")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"current-context": None}, "set `context`"),
        ({"current-context": "venus"}, "no context called `venus`"),
        ({"current-context": "lost"}, "no cluster called `mars`"),
        ({"users": None}, "no user called `robot`"),
        ({"clusters": [{"name": "eu", "cluster": {"server": "ftp://x"}}]}, "is no URL"),
        ({"clusters": [{"name": "eu", "cluster": {"server": "https://x", "certificate-authority": "no"}}]}, "No such"),
        ({"users": [{"name": "robot", "user": {"client-key-data": "e30="}}]}, "a key its certificate"),
        ({"users": [{"name": "robot", "user": {"client-key-data": "sesame!"}}]}, "not base64"),
        ({"users": [{"name": "robot", "user": {"as": "root", "token": "sesame"}}]}, "`as` is not supported"),
        ({"users": [{"name": "robot", "user": {"auth-provider": {"name": "gcp"}}}]}, "not supported"),
        ({"users": [{"name": "robot", "user": {"token": ["sesame"]}}]}, "is none"),
    ],
)
def test_what_is_wrong_is_told_without_what_is_secret(tmp_path: Path, change: Mapping[str, object], told: str) -> None:
    with pytest.raises(RollbackdError, match=told) as caught:
        read(write(tmp_path, CONFIG | dict(change)))
    assert "sesame" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "\0", "[", "- a", "a: &a [*a]", "{" * 5000, "!!python/object:os.x {}"])
def test_a_file_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    with pytest.raises(RollbackdError):
        read(write(tmp_path, content))


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(RollbackdError, match="larger than"):
        read(Path("/dev/zero"))
