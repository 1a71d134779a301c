"""What a Helm manifest holds, and which revision of Kubernetes was made from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from rollbackd.errors import Permanent
from rollbackd.targets.kubernetes.helm_manifest import Held, Subject, held
from rollbackd.targets.kubernetes.helm_match import images, match

SUBJECT = Subject("Deployment", "checkout", "shop", "shop")


def manifest(template: str) -> str:
    return "kind: Deployment\nmetadata: {name: checkout}\nspec:\n  template: " + template


def read(text: str) -> Held:
    return held(text, 1, SUBJECT)


def pod(**container: object) -> str:
    one = {"name": "app", "image": "shop:1", **container}
    return yaml.safe_dump(
        {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [one]}}, default_flow_style=True
    )


def live(**container: object) -> dict[str, Any]:
    """As the API server keeps it, with what it fills in."""
    filled = {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
    one = {"name": "app", "image": "shop:1", **filled, **container}
    spec = {"containers": [one], "restartPolicy": "Always", "securityContext": {}}
    return {"metadata": {"labels": {"app": "a"}}, "spec": spec}


def test_objects_are_named_and_compared_by_their_text() -> None:
    text = (
        "---\n# Source: a\nkind: Secret\nmetadata: {name: a}\nstringData: {password: sesame}\n"
        "--- # and\nkind: Secret\nmetadata: {name: a, namespace: other}\n---\n\n---\n"
        "kind: ConfigMapList\nitems: [{kind: ConfigMap, metadata: {name: b}}, {kind: ConfigMap, metadata: {name: c}}]\n"
    )
    found = read(text)
    assert list(found.objects) == ["Secret a", "Secret a in other", "ConfigMap b", "ConfigMap c"]
    assert "sesame" not in repr(found)
    assert found.template is None
    again = read(text.replace("sesame", "other"))
    assert [name for name, one in found.objects.items() if again.objects[name] != one] == ["Secret a"]
    assert found.digest != again.digest


@pytest.mark.parametrize(
    ("meta", "there"),
    [
        ("{name: checkout}", True),
        ("{name: checkout, namespace: shop}", True),
        ("{name: checkout, namespace: other}", False),
        ("{name: worker}", False),
    ],
)
def test_the_workload_is_found_by_name_and_namespace(meta: str, there: bool) -> None:
    found = read(f"kind: Deployment\nmetadata: {meta}\nspec: {{template: {{spec: {{}}}}}}")
    assert (found.template is not None) is there


def test_what_would_be_lost_is_known() -> None:
    claim = "kind: PersistentVolumeClaim\nmetadata: {name: %s}\n---\n"
    kept = "kind: PersistentVolumeClaim\nmetadata: {name: b, annotations: {helm.sh/resource-policy: keep}}\n"
    assert read(claim % "a" + kept).lasting == {"PersistentVolumeClaim a"}


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: !!python/object/apply:os.system [x]\n  b",
        "&a [*a]",
        "[" * 3000,
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "\n".join(f"{y}: &{y} [{','.join(['*' + x] * 9)}]" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
        "a: \x07",
    ],
)
def test_what_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(Permanent, match="revision 1 of the Helm release holds an object that cannot be read"):
        read(text)


@pytest.mark.parametrize(
    ("meant", "kept"),
    [
        ({}, {}),
        ({"env": None, "args": None, "securityContext": {}}, {"securityContext": {}}),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}),
        (
            {"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}},
            {"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}},
        ),
        ({"ports": [{"containerPort": 80}]}, {"ports": [{"containerPort": 80, "protocol": "TCP"}]}),
        ({"tty": True, "stdin": False}, {"tty": True, "stdin": False}),
        ({"command": ["sh", "-c", "true"]}, {"command": ["sh", "-c", "true"]}),
    ],
)
def test_what_the_api_server_fills_in_is_no_difference(meant: dict[str, object], kept: dict[str, object]) -> None:
    right, wrong = read(manifest(pod(**meant))), read(manifest(pod(**meant, workingDir="/else")))
    assert match(live(**kept), [wrong, right]) is right


@pytest.mark.parametrize(
    ("meant", "kept"),
    [
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}),
        ({"args": ["a"]}, {"args": ["b"]}),
        ({"args": ["a"]}, {}),
        ({"resources": {"limits": {"memory": "1Gi"}}}, {"resources": {"limits": {"memory": "1G"}}}),
        ({"args": ["1000m"]}, {"args": ["1"]}),
        ({"tty": True}, {"tty": False}),
        ({"ports": [{"containerPort": 80}]}, {"ports": [{"containerPort": 81}]}),
        ({"lifecycle": ["a"]}, {"lifecycle": {"a": "b"}}),
    ],
)
def test_what_differs_is_another_release(meant: dict[str, object], kept: dict[str, object]) -> None:
    right, wrong = read(manifest(pod(**kept))), read(manifest(pod(**meant)))
    assert match(live(**kept), [wrong, right]) is right


def test_the_one_that_says_most_is_the_one() -> None:
    """A field that a later chart left out is no contradiction, but the earlier one explains it."""
    said, silent = read(manifest(pod(imagePullPolicy="Always"))), read(manifest(pod()))
    assert match(live(imagePullPolicy="Always"), [silent, said]) is said
    assert match(live(), [said, silent]) is silent


def test_of_equal_ones_the_newest_is_taken() -> None:
    newer, older = read(manifest(pod())), read(manifest(pod()))
    assert match(live(), [newer, older]) is newer


def test_where_none_fits_images_decide_if_they_can() -> None:
    changed = live(env=[{"name": "RELOADED", "value": "abc"}])
    one, same, other = read(manifest(pod())), read(manifest(pod())), read(manifest(pod(args=["x"])))
    elsewhere = read(manifest(pod(image="shop:2")))
    assert match(changed, [elsewhere, one, same]) is one
    assert match(changed, [one, other]) is None
    assert match(changed, [elsewhere]) is None
    assert match(changed, []) is None


def test_a_label_more_is_another_release() -> None:
    labelled = live()
    labelled["metadata"]["labels"]["version"] = "1"
    plain = read(manifest(pod()))
    said = read(manifest(json.dumps({**labelled, "spec": {"containers": [{"name": "app", "image": "shop:1"}]}})))
    assert match(labelled, [plain, said]) is said


def test_images_of_init_containers_count() -> None:
    template = {
        "spec": {"containers": [{"name": "a", "image": "x:1"}], "initContainers": [{"name": "a", "image": "y:1"}]}
    }
    assert images(template) == {"containers/a": "x:1", "initContainers/a": "y:1"}
    assert images(None) == {}
