"""The whole app held against its own OpenAPI document: cases that Schemathesis makes of it, alone and in sequences."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from daemon.limits import Rates
from daemon.settings import Settings
from tests.daemon.conftest import World, open_world
from tests.faults.figures import record

SEED = int(os.environ.get("PLORA_SEED", "5"))
SCOPES = ["events:write", "adapters:read", "predict", "users:admin", "operator", "admin:tenants"]
QUIET = (HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
STEERING = ["/v1/drain", "/v1/switches/{name}"]
"""What has every other answer change: tests/daemon/test_operating.py is about it."""

OPENAI = ["/v1/chat/completions", "/v1/completions"]
"""Held to that API by its own client; what fits a schema may still be refused, as two names of one user are."""


@pytest.fixture
def fuzzed(tmp_path) -> Iterator[World]:
    chosen = Settings(data_dir=tmp_path / "data", keys_dir=tmp_path / "keys", trainer="in-process")
    generous = Rates(source_per_s=1e6, source_burst=1e9, tenant_per_s=1e6, tenant_burst=1e9)
    yield from open_world(replace(chosen, default_consent=True, rate=generous))


def chosen(examples: int, phases: tuple[Phase, ...] = (Phase.explicit, Phase.generate)) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=QUIET,
        verbosity=Verbosity.quiet,
    )


def try_every_operation(world: World, each: int) -> Counter[int]:
    """`each` cases for each operation; every check of the library on every answer."""
    statuses: Counter[int] = Counter()
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.service.app).exclude(path=[*STEERING, *OPENAI])
    headers = world.caller(*SCOPES)

    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.seed(SEED)
        @chosen(each)
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            # What else an event must be no schema says: which labels there are, how many bytes, what its headers say.
            beyond = [positive_data_acceptance] if case.operation.label == "POST /v1/events" else []
            response = case.call_and_validate(headers=headers, excluded_checks=beyond)
            statuses[response.status_code] += 1

        holds()
    return statuses


def try_sequences(world: World, count: int, steps: int) -> None:
    """Sequences of requests that take from each other's answers, each with a seed of its own.

    The app remembers what was sent, and answers with ids of its own: one run of many examples would find its data
    changed behind its back.
    """
    headers = world.caller(*SCOPES)
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.service.app).exclude(path=[*STEERING, *OPENAI])
    machine = schema.as_state_machine()

    class Sequence(machine):
        def get_call_kwargs(self, _: schemathesis.Case) -> dict[str, object]:
            return {"headers": headers}

        def validate_response(self, response: object, case: schemathesis.Case, **_: object) -> None:
            # What it takes for wrong may be a token left out, which is added above; single requests are held to that.
            beyond = [negative_data_rejection]
            beyond += [positive_data_acceptance] if case.operation.label == "POST /v1/events" else []
            case.validate_response(response, headers=headers, excluded_checks=beyond)

    sizes = hypothesis.settings(chosen(2), stateful_step_count=steps)  # the first is the simplest there is
    for number in range(count):
        hypothesis.seed(SEED + number)(Sequence)
        Sequence.run(settings=sizes)


def held(world: World, statuses: Counter[int], *, full: bool) -> None:
    failed = sum(count for status, count in statuses.items() if status >= 500)
    cases = sum(statuses.values())
    record("C8 schemathesis", SEED, cases=cases, failed=failed, full=full)
    assert failed == 0
    assert world.service.parts.store.verify_audit().ok


def test_the_app_keeps_to_its_document(fuzzed):
    held(fuzzed, try_every_operation(fuzzed, 10), full=False)


@pytest.mark.long
def test_the_app_keeps_to_its_document_for_long(fuzzed):
    held(fuzzed, try_every_operation(fuzzed, 220), full=True)


def test_sequences_of_requests_keep_to_it_too(fuzzed):
    try_sequences(fuzzed, 4, 8)


@pytest.mark.long
def test_sequences_of_requests_keep_to_it_for_long(fuzzed):
    try_sequences(fuzzed, 60, 12)
