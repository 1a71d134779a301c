"""What schemathesis loads beside the document: bodies in protobuf, of which a schema says only that they are bytes."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.contract.intakes import SAMPLES

SENT = [one.body("checkout") for one in SAMPLES.values() if one.content_type == "application/x-protobuf"]

schemathesis.openapi.media_type("application/x-protobuf", st.sampled_from(SENT) | st.binary(max_size=1000))
