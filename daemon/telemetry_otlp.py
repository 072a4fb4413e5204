"""Spans in OpenTelemetry's form, sent by OTLP over HTTP. Only a process that was told of a collector loads this.

The library's own tracer is left out: its spans take an exception's text and stack along, and its ids come from a
generator that others seed.
"""

import logging
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from daemon import logs
from daemon.telemetry import Span
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import Trace
from daemon.telemetry_export import Count, Outbox
from daemon.version import release

PATH = "/v1/traces"
ATTRIBUTES: Mapping[str, str] = {
    "user": "enduser.pseudo.id",
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "database": "db.system.name",
    "operation": "db.operation.name",
    "error": "error.type",
    "type": "cloudevents.event_type",
    "events": "plora.events",
    "run": "plora.run",
    "epoch": "plora.run.epoch",
    "attempt": "plora.run.attempt",
    "outcome": "plora.run.outcome",
    "code": "plora.code",
    "version": "plora.version",
    "users": "plora.cohort.users",
    "examples": "plora.examples",
    "mode": "plora.fit.mode",
    "passes": "plora.fit.passes",
    "wait_s": "plora.wait_s",
}
"""The facts that a span may hold, under OpenTelemetry's names where it has one."""


class Recorder:
    """Turns ended spans into OpenTelemetry's and queues them for the collector."""

    def __init__(self, choices: OtlpChoices, role: str, count: Count) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a line for every try; ours tell what changed
        self.sample = choices.sample
        self._scope = InstrumentationScope("plora", release())
        self._resource = _resource(role)
        exporter = OTLPSpanExporter(endpoint=choices.endpoint.rstrip("/") + PATH, timeout=choices.timeout_s)

        def send(batch: Sequence[ReadableSpan]) -> bool:
            return exporter.export(batch) is SpanExportResult.SUCCESS

        self._outbox = Outbox(send, most=choices.queue, count=count, abandon=exporter.shutdown)

    def record(self, span: Span, ended_ns: int) -> None:
        """Never waits."""
        self._outbox.add(self._readable(span, ended_ns))

    def stop(self, timeout_s: float) -> None:
        """Send what waits, for at most this long."""
        self._outbox.stop(timeout_s)

    def _readable(self, span: Span, ended_ns: int) -> ReadableSpan:
        facts = logs.allowed(span.facts)
        return ReadableSpan(
            span.name,
            context=_context(span.trace, is_remote=False),
            parent=None if span.parent is None else _context(span.parent, is_remote=True),
            resource=self._resource,
            attributes={ATTRIBUTES[name]: value for name, value in facts.items() if name in ATTRIBUTES},
            links=[] if span.link is None else [Link(_context(span.link, is_remote=True))],
            kind=SpanKind[span.kind.name],
            instrumentation_scope=self._scope,
            status=Status(StatusCode.ERROR if "error" in facts else StatusCode.UNSET),
            start_time=span.started_ns,
            end_time=ended_ns,
        )


def _context(trace: Trace, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote, TraceFlags(int(trace.sampled)))


def _resource(role: str) -> Resource:
    """Who records. An operator adds to it by OTEL_RESOURCE_ATTRIBUTES."""
    return Resource.create(
        {"service.name": f"plora-{role}", "service.namespace": "plora", "service.version": release()}
    )
