"""Whatever fits the gateway's OpenAPI document, or just does not, is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from llava_plus.model.conversation import AssistantMessage
from llava_plus.model.lmm import Replied, TextDelta, Usage
from schemathesis import GenerationMode
from schemathesis import checks as known
from schemathesis.specs.openapi import checks as openapi

from .gateway_server import gateway

CHECKS = (
    known.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
    openapi.unsupported_method,
)


class Parrot:
    """An LMM that answers everything, any number of times."""

    name = "parrot"

    async def reply(self, conversation: Any, store: Any, *, calls_allowed: bool = True) -> Any:
        yield TextDelta("Yes.")
        yield Replied(AssistantMessage(text="Yes."), Usage(completion_tokens=1))

    async def aclose(self) -> None: ...


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    limits = {"requests_per_minute": 1_000_000}
    with gateway(tmp_path_factory.mktemp("gateway"), Parrot(), access=limits) as served:
        document = served.http.get("/openapi.json").json()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation.pop("security", None)  # no key is needed here
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=served.url)
        yield schema


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_documented(api: Any, mode: GenerationMode) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 18
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not can_be_wrong(operation):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answered(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        answered()


def can_be_wrong(operation: Any) -> bool:
    """Every text is a path that may have been meant."""
    return bool([*operation.query, *operation.body])
