"""What the two intakes of OTLP share: messages from protobuf and from JSON, attributes as labels, replies of its own
form.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp. JSON is the mapping of protobuf but for trace and span
ids, which are hexadecimal there; nobody here wants them, so they are taken out before it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from rollbackd.intake.base import Delivery, Rejected, Reply

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
CONTENT_TYPES = frozenset({PROTOBUF, JSON})

MAX_TEXT = 500
"""Characters of an attribute that are kept where it is a label."""

_UNLABELLED = re.compile(r"[^a-zA-Z0-9_]")
_IDS = frozenset({"traceId", "spanId", "trace_id", "span_id"})

M = TypeVar("M", bound=Message)


def is_json(delivery: Delivery) -> bool:
    """Whether the delivery is JSON, and so must its reply be."""
    return delivery.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON


def message(delivery: Delivery, empty: M) -> M:
    """The body, read into `empty`. Raises Rejected for what is no such message."""
    if not is_json(delivery):
        try:
            empty.ParseFromString(delivery.body)
        except DecodeError:
            raise Rejected(f"the body is no {type(empty).__name__} in protobuf") from None
        return empty
    try:
        fields = msgspec.json.decode(delivery.body, type=dict[str, object])
        wanted = {key: _without_ids(value) for key, value in fields.items()}
        json_format.ParseDict(wanted, empty, ignore_unknown_fields=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejected("the body is no JSON object") from None
    except (json_format.Error, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Rejected(f"the body is no {type(empty).__name__} in JSON: {str(error)[:300]}") from None
    return empty


def _without_ids(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_ids(inner) for key, inner in value.items() if key not in _IDS}
    if isinstance(value, list):
        return [_without_ids(inner) for inner in value]
    return value


def reply(delivery: Delivery, answer: Message) -> Reply:
    """The answer in the form of the request."""
    if is_json(delivery):
        return Reply(body=json_format.MessageToJson(answer, indent=None).encode())
    return Reply(body=answer.SerializeToString(), content_type=PROTOBUF)


def text(value: AnyValue) -> str:
    """A value as text: what is no text itself as JSON."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind is None or kind == "bytes_value":
        return ""
    return msgspec.json.encode(_plain(value, 0)).decode()


def _plain(value: AnyValue, depth: int) -> object:
    kind = value.WhichOneof("value")
    if kind is None or kind == "bytes_value" or depth > 10:
        return None
    if kind == "array_value":
        return [_plain(one, depth + 1) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _plain(one.value, depth + 1) for one in value.kvlist_value.values}
    found: object = getattr(value, kind)
    return found


def labels(*attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes as labels, named as Prometheus would name them: `service.name` is `service_name`. Later ones win."""
    return {_UNLABELLED.sub("_", one.key): text(one.value)[:MAX_TEXT] for some in attributes for one in some if one.key}
