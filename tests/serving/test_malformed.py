"""Fuzzing (short form), and schemathesis over the OpenAPI description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode, checks

from tests.helpers.http_fuzzing import fuzz
from tests.helpers.servers import Running, running

_THOROUGHLY = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


def test_malformed_requests_cause_no_server_fault(kb: Path) -> None:
    with running(kb) as server:
        statuses = fuzz(server, 1500)
    assert statuses[400] > 700
    assert set(statuses) <= {0, 200, 400, 403, 404, 405, 413}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_responses_match_the_description(server: Running, mode: GenerationMode) -> None:
    """Each operation, with requests that fit its schema, and with requests that do not if it takes
    more than an id."""
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    operations = [statuses.ok() for statuses in schema.get_all_operations()]
    assert len(operations) > 20
    if mode is GenerationMode.NEGATIVE:
        operations = [statuses for statuses in operations if can_be_wrong(statuses.definition.raw)]
        assert len(operations) > 12
    for operation in operations:

        @_THOROUGHLY
        @given(case=operation.as_strategy(generation_mode=mode))
        def checked(case: Case) -> None:
            case.call_and_validate(checks=CHECKS)

        checked()


def can_be_wrong(operation: dict[str, Any]) -> bool:
    """Return whether an operation takes a JSON body or a query. Any string is a valid id, and any
    bytes are a valid body of an image upload."""
    bodies = operation.get("requestBody", {}).get("content", {})
    return "application/json" in bodies or any(
        one["in"] == "query" for one in operation.get("parameters", ())
    )
