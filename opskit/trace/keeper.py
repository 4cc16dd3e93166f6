"""What becomes of a recording at its end: it is kept, and exported where a collector is named.

Spans are exported by OTLP over HTTP, in protobuf. The variables come from OpenTelemetry's
specification of the exporter. Needs the extra `otel`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from opskit.errors import StateError
from opskit.records import Record
from opskit.trace.span import Attribute, Recording, Span, SpanKind, SpanStatus
from opskit.trace.store import TraceStore

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_PREFIX = "OTEL_EXPORTER_OTLP_"
_TIMEOUT_MS = 10_000
_NANO = 1_000_000_000
#: Of opentelemetry.proto.trace.v1.
_KINDS = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3}
_STATUSES = {SpanStatus.UNSET: 0, SpanStatus.OK: 1, SpanStatus.ERROR: 2}


class ExportError(Exception):
    """The collector did not take the spans; the text says why."""


class Collector(Record):
    """Where spans go. `timeout_s` is for one export."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Collector | None":
        """Return the collector that the environment names; None where it names none, or switches it off."""

        def variable(name: str) -> str:
            return (environ.get(f"{_PREFIX}TRACES_{name}") or environ.get(f"{_PREFIX}{name}") or "").strip()

        url = environ.get(f"{_PREFIX}TRACES_ENDPOINT", "").strip()
        if not url and (base := environ.get(f"{_PREFIX}ENDPOINT", "").strip()):
            url = f"{base.rstrip('/')}/v1/traces"
        off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if not url or off or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
            return None
        pairs = (pair.partition("=") for pair in variable("HEADERS").split(",") if "=" in pair)
        headers = {name.strip(): unquote(value.strip()) for name, _, value in pairs}
        timeout = variable("TIMEOUT")
        return cls(url, headers, (int(timeout) if timeout.isdecimal() else _TIMEOUT_MS) / 1000)


async def export(collector: Collector, spans: Sequence[Span], *, version: str) -> None:
    """Send spans to a collector. Raises ExportError; a collector that is busy is not asked again."""
    try:
        import httpx

        content = _request(spans, version).SerializeToString()
    except ImportError as error:
        raise ExportError("the extra `otel` is not installed: `pip install 'opskit[otel]'`") from error
    headers = {**collector.headers, "Content-Type": "application/x-protobuf"}
    try:
        host = urlsplit(collector.url).hostname
        async with (
            asyncio.timeout(collector.timeout_s),
            httpx.AsyncClient(timeout=collector.timeout_s) as client,
        ):
            response = await client.post(collector.url, content=content, headers=headers)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ExportError(f"{host} did not answer within {collector.timeout_s:g} s") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
        raise ExportError(f"{_PREFIX}ENDPOINT holds no address of http or https") from error
    except httpx.HTTPError as error:
        raise ExportError(f"{host}: {str(error) or type(error).__name__}") from error
    if not response.is_success:
        raise ExportError(f"{host} answered {response.status_code}")


def _request(spans: Sequence[Span], version: str) -> "ExportTraceServiceRequest":
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "opskit"
    resource.resource.attributes.add(key="service.version").value.string_value = version
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "opskit", version
    for span in spans:
        sent = scope.spans.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id or ""),
            name=span.name,
            kind=_KINDS[span.kind],
            start_time_unix_nano=int(span.start * _NANO),
            end_time_unix_nano=int(span.end * _NANO),
        )
        sent.status.code, sent.status.message = _STATUSES[span.status], span.message
        for key, value in span.attributes.items():
            _set(sent.attributes.add(key=key).value, value)
    return request


def _set(target: Any, value: Attribute) -> None:
    match value:
        case bool():
            target.bool_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case tuple():
            for item in value:
                target.array_value.values.add().string_value = item
        case _:
            target.string_value = str(value)


class TraceKeeper:
    """Keeps traces without ever failing the request that they are of; `on_problem` gets a sentence."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        version: str,
        on_problem: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.store = TraceStore(folder)
        self._collector = Collector.of(environ)
        self._version = version
        self._on_problem = on_problem
        self._exports: set[asyncio.Task[None]] = set()

    def keep(self, recording: Recording, goal: str) -> None:
        try:
            self.store.save(recording, goal)
        except StateError as error:
            self._on_problem(f"the trace is not kept: {error.message}")
        if self._collector is not None:
            task = asyncio.get_running_loop().create_task(self._export(self._collector, recording))
            self._exports.add(task)
            task.add_done_callback(self._exports.discard)

    async def aclose(self) -> None:
        """Wait for what is being exported, within the collector's time limit."""
        await asyncio.gather(*self._exports)

    async def _export(self, collector: Collector, recording: Recording) -> None:
        try:
            await export(collector, recording.spans, version=self._version)
        except ExportError as error:
            self._on_problem(f"the trace is not exported: {error}")
