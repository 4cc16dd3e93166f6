"""`opskit explain` as a person or a script runs it."""

from pathlib import Path

import pytest

from tests.parts.command import Result, opskit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def keys(result: Result) -> list[str]:
    return [entry["key"] for entry in result.document["entries"]]


@pytest.mark.parametrize(
    "words, first",
    [
        (["503"], "503"),
        (["MODEL_003"], "MODEL_003"),
        (["wedged"], "wedged"),
        (["runner_crashed"], "runner_crashed"),
        (["HTTP 429 Too Many Requests"], "429"),
        (["Connection", "reset", "by", "peer"], "reset"),
        (["dial tcp 127.0.0.1:11434: connect: connection refused"], "refused"),
    ],
)
def test_a_code_or_a_text_is_explained(home: Path, words: list[str], first: str) -> None:
    """A code, or words with or without quotes, lead to their explanation with exit 0."""
    result = opskit("explain", *words, "--json", home=home)
    assert result.status == 0
    assert keys(result)[0] == first


def test_an_explanation_says_everything_a_person_needs(home: Path) -> None:
    """Title, cause, remedy, HTTP status and exit status stand in the text."""
    result = opskit("explain", "MODEL_003", home=home)
    assert result.status == 0
    assert "MODEL_003  the model does not fit in memory" in result.out
    assert "cause:" in result.out
    assert "remedy:" in result.out
    assert "HTTP 503; exit status 1" in result.out
    assert result.err == ""


def test_the_document_is_a_report_with_entries(home: Path) -> None:
    """--json keeps the contract of every report and adds the entries, each with all its fields."""
    document = opskit("explain", "404", "--json", home=home).document
    assert {"schema_version", "command", "ok", "status", "findings", "entries"} <= set(document)
    assert document["ok"] is True
    (entry,) = document["entries"]
    assert "mlx_lm.server" in entry["cause"]
    assert {"title", "cause", "remedy", "http_status", "exit", "code", "why"} <= set(entry)


@pytest.mark.parametrize("arguments", [["-"], []])
def test_standard_input_is_read(home: Path, arguments: list[str]) -> None:
    """`-`, and a pipe without arguments, are read: here a log line and a crash."""
    text = b"[LLM_ERROR] node=mlx fault=idle_timeout\nError: model runner has unexpectedly stopped\n"
    result = opskit("explain", *arguments, "--json", home=home, stdin=text)
    assert result.status == 0
    assert keys(result) == ["idle_timeout", "runner_crashed"]


def test_the_error_of_another_command_can_be_piped_in(home: Path) -> None:
    """What opskit itself reports as a document can be explained."""
    failed = opskit("run", "hello", "--json", home=home)
    result = opskit("explain", "-", "--json", home=home, stdin=failed.out.encode())
    assert result.status == 0
    assert keys(result)[0] == failed.document["error"]["code"] == "MODEL_001"


def test_what_is_not_known_is_not_guessed(home: Path) -> None:
    """Nothing matches: exit 1, what may have been meant, and where the list is."""
    result = opskit("explain", "weged", home=home)
    assert result.status == 1
    assert "near: wedged" in result.out
    assert "opskit explain --list" in result.out


def test_a_miss_is_a_failed_report(home: Path) -> None:
    """The document of a miss has no entries, and is not ok."""
    result = opskit("explain", "nothing of the kind 404", "--json", home=home)
    assert result.status == 1
    assert result.document["ok"] is False
    assert result.document["entries"] == []
    assert "404" in result.document["near"]


def test_the_list_shows_every_kind(home: Path) -> None:
    """--list has codes, statuses, faults, verdicts, states and system errors, as a table and a document."""
    result = opskit("explain", "--list", home=home)
    assert result.status == 0
    assert all(key in result.out for key in ("MODEL_001", "499", "runner_crashed", "echo", "not configured"))
    document = opskit("explain", "--list", "--json", home=home).document
    assert document["ok"] is True
    assert len({entry["kind"] for entry in document["entries"]}) == 6


@pytest.mark.parametrize(
    "stdin",
    [b"", b"  \n ", b"\x00\x01\x02binary", b"x" * 10_000_000],
    ids=["empty", "blank", "binary", "huge"],
)
def test_input_that_cannot_be_explained_is_a_usage_error(home: Path, stdin: bytes) -> None:
    """Nothing, binary data and 10 MB end with VAL_002 on one line and exit 2."""
    result = opskit("explain", "-", home=home, stdin=stdin)
    assert result.status == 2
    assert result.err.startswith("opskit: VAL_002: ")
    assert len(result.err.splitlines()) == 1


def test_invalid_utf_8_and_escapes_are_harmless(home: Path) -> None:
    """Bytes that are no text are replaced, and no control character reaches the terminal."""
    result = opskit("explain", "-", home=home, stdin=b"\xff\xfe \x1b[2J connection refused")
    assert result.status == 0
    assert "\x1b" not in result.out
    assert opskit("explain", "-", "--json", home=home, stdin=b"\xff\xfe HTTP 503").document["ok"] is True
