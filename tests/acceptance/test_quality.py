"""`opskit quality` as a person or a script runs it, with the real ruff."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.command import Result, environment, opskit

GOOD = 'def f(a: int) -> int:\n    """Double it."""\n    return a * 2\n'
ANSWER = """Of course:

```python
import os


def show(path):
    os.system("ls " + path)
```

and run it.
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def places(result: Result, category: str) -> list[tuple[str, int]]:
    issues = result.document["issues"]
    return [(issue["file"], issue["line"]) for issue in issues if issue["category"] == category]


def test_good_code_passes(home: Path) -> None:
    """Code with docstrings, hints and no danger exits 0 with a line for each category."""
    (home / "good.py").write_text(GOOD)
    result = opskit("quality", "good.py", home=home)
    assert result.status == 0
    for category in ("syntax", "docstrings", "type hints", "dangerous calls", "likely bugs"):
        assert category in result.out


def test_a_syntax_error_is_told_with_its_place(home: Path) -> None:
    """Broken code exits 1 with file, line, column and reason, and the code REV_002."""
    (home / "bad.py").write_text("x = 1\nif x\n    y = 2\n")
    result = opskit("quality", "bad.py", home=home)
    assert result.status == 1
    assert "bad.py:2:5: syntax-error expected ':'" in result.out
    document = opskit("quality", "bad.py", "--json", home=home).document
    assert document["findings"][0]["code"] == "REV_002"


@pytest.mark.parametrize("arguments", [["-"], [], ["answer.md"]])
def test_a_markdown_answer_is_judged_by_its_blocks(home: Path, arguments: list[str]) -> None:
    """An answer as a file or on standard input: places are lines of the answer, a dangerous call exits 1."""
    (home / "answer.md").write_text(ANSWER)
    result = opskit("quality", *arguments, "--json", home=home, stdin=ANSWER.encode())
    assert result.status == 1
    assert [line for _, line in places(result, "dangerous calls")] == [8]
    assert [line for _, line in places(result, "docstrings")] == [7]


def test_warnings_fail_only_when_asked_to(home: Path) -> None:
    """Missing docstrings and hints exit 0, and 1 with --strict."""
    code = b"def f(a):\n    return a\n"
    assert opskit("quality", "-", home=home, stdin=code).status == 0
    assert opskit("quality", "-", "--strict", home=home, stdin=code).status == 1


def test_an_answer_without_code_is_gen_003(home: Path) -> None:
    """Prose, on standard input or in a .md file, is reported as GEN_003."""
    (home / "prose.md").write_text("# No\n\nI would rather not.\n")
    for arguments in (["-"], ["prose.md"]):
        result = opskit("quality", *arguments, home=home, stdin=b"Sorry, I cannot help with that.")
        assert result.status == 1
        assert result.err.startswith("opskit: GEN_003: ")


def test_a_folder_is_searched_without_what_is_not_ours(home: Path) -> None:
    """Python in subfolders counts; hidden folders, virtual environments and links to folders do not."""
    for name in ("a.py", "sub/b.py", ".hidden/c.py", "env/lib/d.py", "sub/__pycache__/e.py"):
        (home / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "code" / name).write_text("eval(1)\n")
    (home / "code" / "env" / "pyvenv.cfg").touch()
    (home / "code" / "loop").symlink_to(home / "code")
    result = opskit("quality", "code", "--json", home=home)
    assert [file for file, _ in places(result, "dangerous calls")] == ["code/a.py", "code/sub/b.py"]


def test_only_the_first_places_are_shown(home: Path) -> None:
    """--limit bounds the lines of a person's view, and says how many there are."""
    result = opskit("quality", "-", "--limit", "2", home=home, stdin=b"eval(1)\n" * 50)
    assert result.out.count("stdin:") == 2
    assert "and 48 more" in result.out


def test_the_document_is_a_report_with_all_places(home: Path) -> None:
    """--json keeps the contract of every report and adds sources and issues."""
    document = opskit("quality", "-", "--json", home=home, stdin=b"eval(1)\n" * 50).document
    assert {"schema_version", "command", "ok", "status", "findings", "sources", "issues"} <= set(document)
    assert len(document["issues"]) == 50
    assert document["ok"] is False


def test_code_is_never_run(home: Path) -> None:
    """Judging a program leaves it unexecuted."""
    (home / "evil.py").write_text(f'open("{home}/ran", "w")\n')
    opskit("quality", "evil.py", home=home)
    assert not (home / "ran").exists()


def test_without_ruff_the_rules_are_inconclusive(home: Path) -> None:
    """Where ruff is not installed syntax is still judged, the rest exits 3 with the pip command."""
    (home / "good.py").write_text(GOOD)
    code = (
        "import sys\nsys.modules['ruff'] = None\nfrom opskit.cli.main import status\n"
        "sys.exit(status(['quality', 'good.py']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), cwd=home, capture_output=True, timeout=60
    )
    assert done.returncode == 3
    assert b"pip install 'opskit[quality]'" in done.stdout


def one_line(result: Result) -> str:
    assert result.status == 2
    assert "Traceback" not in result.err
    (line,) = result.err.splitlines()
    assert line.startswith("opskit: VAL_002: ")
    return line


@pytest.mark.parametrize(
    "name",
    ["missing.py", "pipe.py", "binary.py", "latin.py", "huge.py", "empty", "file.txt/inside.py", "n" * 300],
)
def test_a_path_that_cannot_be_judged_is_a_usage_error(home: Path, name: str) -> None:
    """Missing, not regular, binary, wrongly encoded, too large, without Python: one line, exit 2, at once."""
    os.mkfifo(home / "pipe.py")
    (home / "binary.py").write_bytes(b"\x7fELF\0\0\0")
    (home / "latin.py").write_bytes(b'name = "caf\xe9"\n')
    (home / "huge.py").write_bytes(b"x = 1\n" * 2_000_000)
    (home / "empty").mkdir()
    (home / "file.txt").touch()
    one_line(opskit("quality", name, home=home, timeout=20))


@pytest.mark.parametrize("stdin", [b"", b"a\0b", b"x" * 10_000_000], ids=["empty", "binary", "huge"])
def test_standard_input_that_cannot_be_judged_is_a_usage_error(home: Path, stdin: bytes) -> None:
    """Nothing, binary data and 10 MB on standard input: one line, exit 2."""
    one_line(opskit("quality", "-", home=home, stdin=stdin))


def test_a_bad_file_in_a_folder_hides_nothing_of_the_others(home: Path) -> None:
    """What cannot be read in a folder is named, and the rest is judged."""
    (home / "code").mkdir()
    (home / "code" / "a.py").write_text(GOOD)
    (home / "code" / "b.py").write_bytes(b"\0\0")
    result = opskit("quality", "code", "--json", home=home)
    assert result.status == 3
    assert result.finding("code/b.py")["state"] == "unread"


def test_a_declared_encoding_is_respected(home: Path) -> None:
    """Python that declares its encoding is read in it."""
    (home / "latin.py").write_bytes(b'# -*- coding: latin-1 -*-\nname = "caf\xe9"\n')
    assert opskit("quality", "latin.py", home=home).status == 0


def test_a_name_that_is_no_text_can_be_shown(home: Path) -> None:
    """A file name of arbitrary bytes breaks neither the table nor the document."""
    name = os.fsdecode(b"\xff\x1b[2J.py")
    (home / name).write_text("eval(1)\n")
    shown = opskit("quality", ".", home=home)
    assert shown.status == 1
    assert "\x1b" not in shown.out
    assert opskit("quality", ".", "--json", home=home).document["ok"] is False
