"""Ports and endpoints of the stack, findings about the internet, plain tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import AgentConfig, Config, NodeConfig, Secret
from opskit.diagnose.area import Area, TableSection
from opskit.diagnose.endpoints import EndpointPage, section, servers
from opskit.diagnose.machine import expected_ports
from opskit.diagnose.network import internet_finding, own_names
from opskit.diagnose.redaction import Redactor
from opskit.diagnose.report import AREAS, areas_of
from opskit.facts.endpoint import EndpointFacts
from opskit.facts.internet import InternetAttempt, InternetFacts
from opskit.providers.base import CallCause, CallError
from opskit.providers.kinds import LMSTUDIO
from opskit.records import replace
from opskit.system.network import TcpResult

CONFIG = Config(
    "/s",
    (
        NodeConfig("ollama", "http://localhost:11434", "ollama", explicit=False),
        NodeConfig("far", "http://1.2.3.4:80", "openai"),
    ),
    (AgentConfig("victoria", "http://127.0.0.1:9999"),),
)


def test_ports_are_the_usual_ones_and_the_configured_ones():
    """One that was moved elsewhere is still looked at, and one of another machine is not."""
    found = expected_ports(CONFIG)
    assert set(found) == {8003, 8010, 8011, 9001, 9002, 9999, 11434, 11435}
    assert (found[9999], found[11434], found[8010]) == ("victoria", "ollama", "victoria, usually")


def test_no_endpoint_costs_a_token():
    """Requests that would make a model work are named, and never asked."""
    found = servers(CONFIG, {"far": LMSTUDIO})
    paths = {path for server in found for path in server.paths}
    assert not paths & {"/run", "/generate", "/review", "/chat", "/orchestrate", "/v1/chat/completions"}
    assert "/api/v0/models" in paths
    assert "POST /run" in next(one.costly for one in found if one.name == "victoria")


def test_a_server_that_nobody_named_may_be_absent():
    """One that was named may not."""
    asked = servers(CONFIG, {})
    answers = [
        EndpointPage(
            server,
            server.paths[0],
            EndpointFacts(error=CallError(CallCause.REFUSED, "nothing listens there"), seconds=0.1),
        )
        for server in asked
    ]
    verdicts = {one.target.split()[0]: one.status.value for one in section(answers, asked, slow_s=5).findings}
    assert verdicts == {"ollama": "skip", "far": "fail", "victoria": "fail", "generator": "skip",
                        "reviewer": "skip", "starcoder": "skip"}  # fmt: skip


@pytest.mark.parametrize(
    ("named", "addressed", "state"),
    [(None, None, "ok"), (None, "timeout", "ok"), ("name", None, "no names"), ("timeout", None, "no names"),
     ("refused", None, "partly"), ("name", "unreachable", "offline")],
)  # fmt: skip
def test_what_the_internet_means(named: str | None, addressed: str | None, state: str):
    """A name that is reached proves all of it; an address alone accuses the resolver."""
    by_name = InternetAttempt("a:1", True, named != "name", TcpResult(0.1, named))
    by_address = InternetAttempt("1:1", False, True, TcpResult(0.1, addressed))
    assert internet_finding(InternetFacts((by_name, by_address)), routed=True).state == state


def test_names_are_those_that_the_stack_uses():
    """Addresses are no names; the host of containers matters inside one."""
    assert own_names(CONFIG, in_docker=False) == ["localhost"]
    cloud = NodeConfig("cloud", "https://models.example", "openai", proxy=Secret("http://proxy.corp:3128"))
    assert own_names(replace(CONFIG, nodes=(cloud,)), in_docker=False) == ["localhost", "proxy.corp"]
    assert own_names(CONFIG, in_docker=True) == ["localhost", "host.docker.internal"]


def test_areas_come_in_their_order():
    """However they are asked for, once each."""
    assert areas_of([]) == areas_of(["api", "all"]) == AREAS
    assert areas_of(["models", "api", "api"]) == ("api", "models")
    with pytest.raises(ValueError, match="nothing"):
        areas_of(["nothing"])


CELLS = st.text(max_size=12)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6))
def test_a_plain_table_has_a_line_for_each_row(rows: list[tuple[str, str]]):
    """Line ends and control characters in cells break no line."""
    lines = list(TableSection("t", ("one", "two"), tuple(rows)).plain())
    assert len(lines) == len(rows) + 2
    assert all(line.isprintable() for line in lines)


def test_columns_of_a_plain_table_are_in_line():
    """Wide characters count twice."""
    lines = list(TableSection("t", ("a", "b"), (("界", "x"), ("yy", "x"))).plain())
    assert lines[1:] == ["a   b", "界  x", "yy  x"]


def test_an_area_is_redacted_as_a_whole():
    """Tables, lines, data and findings; a key over several lines of a log too."""
    lines = ("-----BEGIN PRIVATE KEY-----", "MIIabc", "-----END PRIVATE KEY-----", "after")
    area = Area("x", 0.0, {"a": "geheim-1"}, (TableSection("t", ("c",), (("geheim-1",),), lines),))
    shown = area.redacted(Redactor(["geheim-1"]))
    assert shown.data == {"a": "***"}
    assert shown.tables[0].rows == (("***",),)
    assert shown.tables[0].lines == ("***", "after")
