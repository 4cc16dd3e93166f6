"""Traces that go to a collector by OTLP, received by the official messages."""

import asyncio
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from opskit.trace.keeper import Collector, TraceKeeper
from opskit.trace.span import Recording, SpanKind, record, span

ID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"


def recorded() -> Recording:
    with record("request", ID) as (recording, _):
        attributes = {"s": "text", "i": 3, "f": 0.5, "b": True, "l": ("a", "b")}
        with span("chat m", kind=SpanKind.CLIENT, attributes=attributes) as call:
            call.fail("wedged", "no token")
    return recording


async def kept(folder: Path, **environ: str) -> list[str]:
    problems: list[str] = []
    keeper = TraceKeeper(folder, environ, version="1.2.3", on_problem=problems.append)
    keeper.keep(recorded(), "goal")
    await keeper.aclose()
    return problems


async def test_a_collector_gets_every_span_with_its_attributes(tmp_path: Path, httpserver: HTTPServer):
    """Ids, times, kind, status, types of values and the headers of the environment."""
    requests: list[Request] = []

    def take(request: Request) -> Response:
        requests.append(request)
        return Response(b"", content_type="application/x-protobuf")

    httpserver.expect_request("/base/v1/traces", method="POST").respond_with_handler(take)
    problems = await kept(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=httpserver.url_for("/base/"),
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Basic%20abc, x-tenant=t1",
    )
    assert problems == []
    (request,) = requests
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert (request.headers["Authorization"], request.headers["X-Tenant"]) == ("Basic abc", "t1")
    message = ExportTraceServiceRequest.FromString(request.get_data())
    resource = message.resource_spans[0]
    assert {a.key: a.value.string_value for a in resource.resource.attributes} == {
        "service.name": "opskit",
        "service.version": "1.2.3",
    }
    root, call = resource.scope_spans[0].spans
    assert (root.trace_id.hex(), call.parent_span_id, root.parent_span_id) == (
        ID.replace("-", ""),
        root.span_id,
        b"",
    )
    assert (call.kind, call.status.code, call.status.message) == (3, 2, "no token")
    assert 0 <= call.end_time_unix_nano - call.start_time_unix_nano < 10**9
    values = {a.key: a.value for a in call.attributes}
    assert values["i"].int_value == 3
    assert values["f"].double_value == 0.5
    assert values["b"].bool_value is True
    assert [v.string_value for v in values["l"].array_value.values] == ["a", "b"]
    assert values["error.type"].string_value == "wedged"


async def test_a_collector_that_refuses_costs_a_note_and_no_request(tmp_path: Path, httpserver: HTTPServer):
    """The trace is kept here all the same."""
    httpserver.expect_request("/v1/traces").respond_with_data("", status=503)
    problems = await kept(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=httpserver.url_for(""))
    assert problems == ["the trace is not exported: localhost answered 503"]
    assert (tmp_path / "traces.db").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "nonsense", "http://[::bad"])
async def test_a_collector_that_cannot_be_reached_costs_a_note(tmp_path: Path, address: str):
    """Whatever stands in the variable, no request fails for it."""
    (problem,) = await kept(tmp_path, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=address)
    assert problem.startswith("the trace is not exported: ")


async def test_a_silent_collector_holds_the_command_up_for_its_time_limit_only(tmp_path: Path):
    """OTEL_EXPORTER_OTLP_TIMEOUT is in milliseconds."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    problems = await kept(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TIMEOUT="300",
    )
    for writer in writers:
        writer.close()
    server.close()
    assert problems == ["the trace is not exported: 127.0.0.1 did not answer within 0.3 s"]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "  "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_where_no_collector_is_named(environ: dict[str, str]):
    """The default needs no collector."""
    assert Collector.of(environ) is None
