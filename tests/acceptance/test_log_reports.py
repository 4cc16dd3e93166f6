"""`opskit logs stats` and `opskit logs request` as people use them."""

from pathlib import Path

import pytest

from tests.parts import logfile
from tests.parts.command import opskit

ID = "8979fe84-3a15-468c-96c9-758325391ded"
AGENT = f"""\
2026-11-20T08:00:00Z [REQUEST] correlation_id={ID} method=RUN goal="What is it?"
2026-11-20T08:00:00.100Z [LLM_CALL] correlation_id={ID} node=ollama model=big:32b fallback=false
2026-11-20T08:00:05.200Z [LLM_CRASH] correlation_id={ID} node=ollama model=big:32b fault=runner_crashed
2026-11-20T08:00:05.210Z [LLM_CALL] correlation_id={ID} node=mlx model=m fallback=true
2026-11-20T08:00:06Z [LLM_RESPONSE] correlation_id={ID} node=mlx model=m seconds=0.79 status=200 tokens=20
"""
SERVER = f"2026-11-20T08:00:05.000Z ERROR runner died, request {ID}\n2026-11-20T08:00:09Z INFO unrelated\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    (tmp_path / "agent.log").write_text(AGENT)
    (tmp_path / "server.log").write_text(SERVER)
    return [str(tmp_path / "agent.log"), str(tmp_path / "server.log")]


def test_the_story_of_a_request(home: Path, sources: list[str]) -> None:
    """Its lines of all sources in order, the time between them with gaps marked, its attempts."""
    result = opskit("logs", "request", ID[:8], *sources, home=home)
    assert result.status == 0, result
    assert "GAP" in result.out
    assert "runner_crashed" in result.out
    assert "unrelated" not in result.out
    document = opskit("logs", "request", ID[:8], *sources, "--json", home=home).document
    assert [line["source"] for line in document["lines"]].index("server.log") == 2
    assert [(a["model"], a["fault"]) for a in document["attempts"]] == [
        ("big:32b", "runner_crashed"),
        ("m", None),
    ]
    assert document["ok"] is True


def test_an_unknown_request_is_told(home: Path, sources: list[str]) -> None:
    """No line with that id: one line, exit 2."""
    result = opskit("logs", "request", "ffffffff", *sources, home=home)
    assert result.status == 2
    assert "VAL_002" in result.err


def test_statistics(home: Path, sources: list[str], tmp_path: Path) -> None:
    """Calls and failures of each model, errors by message; as text, JSON and Markdown."""
    report = tmp_path / "report.md"
    result = opskit("logs", "stats", *sources, "--json", "--markdown", str(report), home=home)
    assert result.status == 0, result
    found = result.document["stats"]
    assert found["lines"] == 7
    assert r"runner\_crashed" in report.read_text()
    table = opskit("logs", "stats", *sources, "--by", "model", home=home).out
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["big:32b", "m"]


def test_a_window_limits_the_statistics(home: Path, sources: list[str]) -> None:
    """--since and --until."""
    window = ["--since", "2026-11-20T08:00:05.205Z", "--until", "2026-11-20T08:00:07Z"]
    assert opskit("logs", "stats", *sources, *window, "--json", home=home).document["stats"]["lines"] == 2


def test_the_counts_are_the_truth(home: Path, tmp_path: Path) -> None:
    """On a generated log whose truth is known."""
    path = tmp_path / "known.log"
    truth = logfile.write(path, size_bytes=3_000_000)
    found = opskit("logs", "stats", str(path), "--json", home=home).document["stats"]
    assert found["lines"] == truth.lines


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--by", "colour"], 2), (["--markdown", "/nonexistent/x/report.md"], 2), (["--since", "whenever"], 2)],
)
def test_bad_input(home: Path, sources: list[str], arguments: list[str], status: int) -> None:
    """Refused in one line."""
    result = opskit("logs", "stats", *sources, *arguments, home=home)
    assert result.status == status
    assert "VAL_002" in result.err


def test_lines_have_the_time_of_their_envelope(home: Path, tmp_path: Path) -> None:
    """Where the text has none, each error is counted at its own second, and no byte more than its text."""
    texts = ("INFO begun", "ERROR disk is full", '{"level": "error", "msg": "no room"}')
    lines = [f"2026-11-20T08:00:{second:02d}.5Z stdout F {text}\n" for second, text in enumerate(texts)]
    (tmp_path / "pod.log").write_text("".join(lines))
    stats = opskit("logs", "stats", str(tmp_path / "pod.log"), "--json", home=home).document["stats"]
    assert (stats["first"], stats["last"]) == ("2026-11-20T08:00:00.500Z", "2026-11-20T08:00:02.500Z")
    assert {error["message"]: error["first"] for error in stats["errors"]["top"]} == {
        "disk is full": "2026-11-20T08:00:01.500Z",
        "no room": "2026-11-20T08:00:02.500Z",
    }
    assert stats["bytes"] == sum(len(text) + 1 for text in texts)


def test_nothing_to_count(home: Path, tmp_path: Path) -> None:
    """An empty log exits 1 and says so."""
    (tmp_path / "empty.log").write_bytes(b"")
    result = opskit("logs", "stats", str(tmp_path / "empty.log"), home=home)
    assert result.status == 1
    assert "empty.log" in result.err
