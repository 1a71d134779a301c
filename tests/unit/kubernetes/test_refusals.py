"""What of a refusal is passed on. The bodies are those of a kube-apiserver 1.34, shortened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rollbackd.kubernetes.refusals import told, without_values

VALUE = "hunter2"
"""What somebody wrote into a manifest, and nobody else may read."""
ENV = "spec.template.spec.containers[0].env[0]"


def body(message: str, *causes: tuple[str, str, str], reason: str = "Invalid", **details: Any) -> str:
    """A Status, by its message and the reason, message and field of each cause."""
    told_of = [{"reason": why, "message": words, "field": field} for why, words, field in causes]
    about = {"name": "checkout", "group": "apps", "kind": "Deployment", "causes": told_of} | details
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "reason": reason, "details": about})


def invalid(*causes: tuple[str, str, str]) -> str:
    """A Status as the server makes it of several fields."""
    words = ", ".join(f"{field}: {what}" for _, what, field in causes)
    return body(f'Deployment.apps "checkout" is invalid: [{words}]', *causes)


NAME = ("FieldValueInvalid", f'Invalid value: "pass={VALUE} \\"x\\": y": a valid name consists of', f"{ENV}.name")
PATH = (
    "FieldValueInvalid",
    f'Invalid value: "{VALUE}": error converting fieldPath: field label not supported: {VALUE}',
    f"{ENV}.valueFrom.fieldRef.fieldPath",
)
PULL = (
    "FieldValueNotSupported",
    f'Unsupported value: "{VALUE}": supported values: "Always", "Never"',
    "spec.template.spec.containers[0].imagePullPolicy",
)
SELECTOR = ("FieldValueInvalid", f'Invalid value: {{"matchLabels":{{"app":"{VALUE}"}}}}: immutable', "spec.selector")
MOUNT = ("FieldValueNotFound", f'Not found: "{VALUE}"', "spec.template.spec.containers[0].volumeMounts[0].name")
POD = ("FieldValueForbidden", f'Forbidden: pod updates may not change\n  core.PodSpec{{ Value: "{VALUE}" }}', "spec")


@pytest.mark.parametrize("cause", [NAME, PATH, PULL, SELECTOR, MOUNT, POD])
def test_a_field_that_is_refused_is_named_without_its_value(cause: tuple[str, str, str]) -> None:
    how = cause[1].partition(":")[0]
    assert told(invalid(cause)) == f"Deployment.apps checkout is invalid: {cause[2]}: {how}"


def test_several_fields_are_named_and_many_are_counted() -> None:
    required = ("FieldValueRequired", "Required value", "spec.template.spec.containers[0].image")
    both = f"Deployment.apps checkout is invalid: {PULL[2]}: Unsupported value, {required[2]}: Required value"
    assert told(invalid(PULL, required)) == both
    assert told(invalid(*[required] * 12)).endswith("Required value, and 7 more")


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("FieldManagerConflict", "FieldManagerConflict"),
        ("", "Invalid value"),
        (VALUE, "Invalid value"),
        ("a" * 61, "Invalid value"),
        ("Pass word", "Invalid value"),
        ("Password\n", "Invalid value"),
    ],
)
def test_a_reason_of_another_kind_is_told_where_it_is_one_word(reason: str, shown: str) -> None:
    cause = (reason, f'conflict with "{VALUE}"', ".spec.replicas")
    assert told(invalid(cause)) == f"Deployment.apps checkout is invalid: .spec.replicas: {shown}"


def test_the_object_that_a_patch_made_is_not_told() -> None:
    whole = json.dumps(json.dumps({"spec": {"env": [{"name": "PASSWORD", "value": VALUE}]}}))
    words = f"Invalid value: {whole}: json: cannot unmarshal number into Go struct field EnvVar.value of type string"
    cause = ("FieldValueInvalid", words, "patch")
    found = told(body(f' "" is invalid: patch: {words}', cause, name="", group="", kind=""))
    assert found == "what was sent is invalid: patch: Invalid value"


POLICY = (
    'deployments.apps "checkout" is forbidden: '
    "ValidatingAdmissionPolicy 'no-literals' with binding 'all' denied request"
)
RIGHTS = (
    'deployments.apps "checkout" is forbidden: User "system:serviceaccount:ops:rollbackd" cannot patch resource '
    '"deployments" in API group "apps" in the namespace "shop"'
)
CHANGED = 'Operation cannot be fulfilled on deployments.apps "checkout": the object has been modified; please try again'
UNREACHABLE = (
    'Internal error occurred: failed calling webhook "w.example.org": failed to call webhook: Post '
    '"https://127.0.0.1:1/v?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused'
)


@pytest.mark.parametrize(
    ("message", "reason", "shown"),
    [
        (f"{POLICY}: PASSWORD is {VALUE}", "Invalid", POLICY),
        (
            f'admission webhook "w.example.org" denied the request: env PASSWORD={VALUE} is a literal',
            "Forbidden",
            'admission webhook "w.example.org" denied the request',
        ),
        (RIGHTS, "Forbidden", RIGHTS),
        (CHANGED, "Conflict", CHANGED),
        ('deployments.apps "checkout" not found', "NotFound", 'deployments.apps "checkout" not found'),
        (UNREACHABLE, "InternalError", UNREACHABLE),
        (
            "the server rejected our request due to an error in our request",
            "Invalid",
            "the server rejected our request due to an error in our request",
        ),
        (
            f'Deployment in version "v1" cannot be handled: error found in #10 byte of ...|value":{VALUE}|...',
            "BadRequest",
            'Deployment in version "***" cannot be handled: error found in #10 byte',
        ),
        (f'strict decoding error: unknown field "{VALUE}"', "BadRequest", 'strict decoding error: unknown field "***"'),
    ],
)
def test_other_reasons_stand_as_far_as_they_quote_names_alone(message: str, reason: str, shown: str) -> None:
    cause = ("", message, "")
    assert told(body(message, cause, reason=reason)).removesuffix(":") == shown


@pytest.mark.parametrize(
    "sent",
    [
        f'[{{"op":"add","path":"/spec/template","value":"{VALUE}"}}]',
        f'{{"kind":"Status","message":"Invalid value: \\"{VALUE}',
        f'"{VALUE}"',
        f'<p>you sent "{VALUE}"',
        f"<p>you sent '{VALUE}",
        f"<p>you sent '{VALUE}'s",
        f'{{"message":"x: \\"a\\\\\\" {VALUE} \\"b\\""}}',
        f'{{"message":"x `{VALUE}"}}',
        json.dumps({"message": "no", "details": {"kind": VALUE * 99, "causes": [{"field": f'a "{VALUE}"'}]}}),
        json.dumps({"message": f'x "{VALUE}"', "details": {"name": f'"{VALUE}"'}}),
        "[" * 100_000,
    ],
)
def test_what_is_no_proper_refusal_tells_no_value_either(sent: str) -> None:
    assert VALUE not in told(sent)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_of_two_lines_are_no_pair(quote: str) -> None:
    """They would leave what the second one begins outside."""
    words = f'no: 5 {quote} wide\nnor {quote}{VALUE}{quote} as "x"'
    assert without_values(words) == 'no: 5 "***"'


def test_words_within_those_of_another_program_are_cut_as_well() -> None:
    refused = f'Deployment.apps "checkout" is invalid: {ENV}.name: Invalid value'
    helm = f'Error: cannot patch "checkout" with kind Deployment: {refused}'
    assert without_values(f'{helm}: "{VALUE}": must be {VALUE}') == helm
