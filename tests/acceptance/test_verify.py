"""`opskit verify` as people and machines use it."""

import json
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.parts.command import Result, opskit

FORMATS = ("text", "json", "junit", "tap", "nagios", "prometheus", "markdown")
PASS = "- {name: good, kind: command, with: {run: 'true'}}\n"
FAIL = "- {name: bad, kind: command, with: {run: 'false'}, remedy: mend it}\n"
WARN = "- {name: bad, kind: command, with: {run: 'false'}, severity: warning}\n"
OPEN = "- {name: late, kind: command, with: {run: 'true'}, requires: [bad]}\n"
SKIP = "- {name: left, kind: command, with: {run: 'true'}, skip: not today}\n"
OUTCOMES = {
    "pass": (PASS, 0, 0),
    "pass and skip": (PASS + SKIP, 0, 0),
    "warn": (PASS + WARN, 0, 1),
    "fail": (PASS + FAIL + OPEN, 1, 2),
    "inconclusive": (PASS + WARN + OPEN, 3, 3),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def verify(home: Path, checks: str, *arguments: str) -> Result:
    home.mkdir(exist_ok=True)
    (home / "c.yaml").write_text("checks:\n" + checks)
    return opskit("verify", "c.yaml", *arguments, home=home)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_exit_status_is_the_same_for_every_format(home: Path, outcome: str, form: str):
    """Only nagios follows the convention of its plugins."""
    checks, status, nagios = OUTCOMES[outcome]
    result = verify(home, checks, "--format", form)
    assert result.status == (nagios if form == "nagios" else status), result.err
    assert result.out


def test_smoke_passes_on_the_sandbox(home: Path):
    """CI needs nothing but `opskit verify smoke --sandbox`."""
    result = opskit("verify", "smoke", "--sandbox", "--json", home=home)
    assert result.status == 0, result.out
    statuses = {finding["check"]: finding["status"] for finding in result.document["findings"]}
    # Docker may be there or not, and nothing of the sandbox needs it.
    assert statuses.pop("the stack's containers are well") in ("pass", "skip")
    assert set(statuses.values()) == {"pass"}
    assert len(statuses) == 6


@pytest.mark.parametrize("name", ["victoria", "live_chain"])
def test_lists_of_victoria_pass_on_the_sandbox(home: Path, name: str):
    """Levels, delegation, chat and the live chain hold on a stack that is well."""
    result = opskit("verify", name, "--sandbox", home=home)
    assert result.status == 0, result.out


def test_the_live_chain_is_not_judged_without_victoria(home: Path):
    """Victoria is missing: said so, inconclusive, exit 3."""
    result = opskit("verify", "live_chain", "--json", home=home, env={"VICTORIA_URL": "http://127.0.0.1:9"})
    assert result.status == 3
    statuses = [one["status"] for one in result.document["findings"]]
    assert statuses == ["warn", "inconclusive", "inconclusive"]
    assert result.document["findings"][1]["detail"] == "because 'victoria is there' failed"


def test_without_a_file_the_stack_is_verified_and_said(home: Path):
    """`opskit verify` alone names the list that it takes."""
    result = opskit("verify", "--list", "stack", home=home)
    assert "docker answers" in result.out
    alone = opskit("verify", "--tag", "config", "--json", home=home)
    assert "running `stack`" in alone.err
    assert [one["check"] for one in alone.document["findings"]] == ["the configuration is valid"]


def test_a_mistake_in_a_checklist_is_one_line_with_its_place(home: Path):
    """File, line, near key, exit 78; the other problems follow on lines of their own."""
    result = verify(home, "- {name: a, kind: tcp, with: {prt: 1}}\n- {name: b, kind: htp}\n")
    assert result.status == 78
    lines = [line for line in result.err.splitlines() if line.startswith("opskit: ")]
    assert len(lines) == 1
    assert "c.yaml:2:" in lines[0]
    assert "did you mean `port`?" in lines[0]
    assert "also: c.yaml:3" in result.err


@pytest.mark.parametrize(
    "arguments, status",
    [
        (("--tag", "nope"), 78),
        (("--name", "nope"), 78),
        (("--format", "yaml"), 2),
        (("--var", "novalue"), 2),
        (("--retry-timeout", "soon"), 2),
        (("--max-concurrent", "0"), 2),
        (("--output", "/nowhere/x"), 2),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(home: Path, arguments: tuple[str, ...], status: int):
    """Each ends in one line and its exit status, in JSON too."""
    result = verify(home, PASS, *arguments)
    assert result.status == status, result.err
    assert "Traceback" not in result.err
    as_json = verify(home, PASS, "--json", *arguments)
    assert as_json.document["error"]["code"]


def test_a_file_that_is_not_there_is_told(home: Path):
    """Neither a path nor a shipped list: exit 78 with the lists that exist."""
    result = opskit("verify", "smok", home=home)
    assert result.status == 78
    assert "smoke" in result.err


def test_variables_come_from_the_command_line(home: Path):
    """--var reaches `${name}`."""
    checks = "- {name: a, kind: command, with: {run: ['sh', '-c', 'exit ${code}']}, expect: {exit: 4}}\n"
    assert verify(home, checks, "--var", "code=4").status == 0
    assert verify(home, checks).status == 78


def test_the_report_goes_to_a_file(home: Path):
    """--output holds the report, and stdout stays empty."""
    result = verify(home, PASS + FAIL, "--format", "junit", "--output", "out.xml")
    assert (result.status, result.out) == (1, "")
    suite = ET.parse(home / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "1"


def test_what_hangs_does_not_hold_the_command(home: Path):
    """A command that never ends is cut, and the run ends in its budget."""
    result = verify(home, "- {name: a, kind: command, with: {run: sleep 1000}, timeout: 200ms}\n", "--json")
    assert result.status == 1
    assert result.document["findings"][0]["state"] == "timeout"


def test_a_run_is_repeated_until_it_passes(home: Path):
    """--retry-timeout waits for something that comes later."""
    script = "'test -e there || { touch there; exit 1; }'"
    checks = f"- {{name: a, kind: command, with: {{run: [sh, -c, {script}]}}}}\n"
    result = verify(home, checks, "--retry-timeout", "30s", "--json")
    assert result.status == 0
    assert result.document["findings"][0]["evidence"]["attempts"] == 2


def test_a_check_is_written_from_the_live_state(home: Path):
    """--add records what is there; the list that grows from it passes as long as nothing changes."""
    home.mkdir()
    (home / "f.txt").write_text("x")
    assert opskit("verify", "--add", "file", "path=f.txt", "--output", "l.yaml", home=home).status == 0
    add = ("verify", "--add", "command", "run=false", "--name", "it fails", "--output", "l.yaml")
    assert opskit(*add, home=home).status == 0
    result = opskit("verify", "l.yaml", "--json", home=home)
    assert result.status == 0, result.out
    assert [one["check"] for one in result.document["findings"]] == ["file f.txt", "it fails"]
    (home / "f.txt").unlink()
    assert opskit("verify", "l.yaml", home=home).status == 1


@pytest.mark.parametrize(
    "arguments, status, part",
    [
        (("tpc",), 2, "did you mean `tcp`?"),
        (("tcp", "prt=1"), 2, "did you mean `port`?"),
        (("tcp", "port"), 2, "write parameter=value"),
        (("command", "run=echo a | grep b"), 2, "`|` needs one"),
        (("tcp", "port=9", "host=127.0.0.1"), 1, "there is no state to record"),
    ],
)
def test_what_cannot_be_recorded_is_refused(home: Path, arguments: tuple[str, ...], status: int, part: str):
    """A mistyped kind or parameter, and a target that is broken now, make no check."""
    result = opskit("verify", "--add", *arguments, home=home)
    assert (result.status, result.out) == (status, "")
    assert part in result.err


def test_the_schema_and_the_kinds_are_printed(home: Path):
    """Editors get a JSON schema, people the kinds with what they yield."""
    assert opskit("verify", "--schema", home=home).document["$schema"].endswith("2020-12/schema")
    listed = opskit("verify", "--kinds", "--json", home=home).document["kinds"]
    assert {"http", "container", "model", "agent_chain", "database"} <= {one["kind"] for one in listed}
    assert "yields status" in opskit("verify", "--kinds", home=home).out


def test_terminal_codes_of_a_target_stay_harmless(home: Path):
    """What a command writes cannot steer the terminal."""
    checks = "- {name: a, kind: command, with: {run: ['sh', '-c', 'printf \"\\\\033[2J\"; exit 1']}}\n"
    for form in ("text", "tap", "nagios", "markdown"):
        assert "\x1b[2J" not in verify(home, checks, "--format", form).out


def test_a_checklist_that_is_no_text_or_too_large_is_refused(home: Path):
    """Binary files, folders, endless lists and YAML bombs exit 78 without a traceback."""
    home.mkdir()
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
    )
    for content in (b"\xff\xfe\x00", b"#" * 2_000_000, bomb.encode(), b"[" * 5000):
        (home / "x.yaml").write_bytes(content)
        result = opskit("verify", "x.yaml", home=home)
        assert result.status == 78, result.err
        assert "Traceback" not in result.err
    assert opskit("verify", str(home), home=home).status == 78


def test_the_wheel_holds_the_checklists():
    """The shipped lists are part of the package that is installed."""
    root = Path(__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {"checks": "opskit/checks/lists"}


def test_json_is_one_document(home: Path):
    """Schema version, command, status and findings, as for every command."""
    document = json.loads(verify(home, PASS, "--json").out)
    assert (document["schema_version"], document["command"], document["status"]) == (1, "verify", "pass")


def test_a_check_is_repeated_until_it_passes(home: Path):
    """`retry` waits for something that comes later."""
    script = "'test -e there || { touch there; exit 1; }'"
    retry = "retry: {count: 3, delay: 10ms}"
    checks = f"- {{name: a, kind: command, with: {{run: [sh, -c, {script}]}}, {retry}}}\n"
    result = verify(home, checks, "--json")
    assert result.status == 0
    assert result.document["findings"][0]["evidence"]["attempts"] == 2


@pytest.mark.parametrize(
    "checks, arguments, parts",
    [
        ("- {name: a, kind: disk}\n", ("--var", "diks=/"), ("uses the variable 'diks'",)),
        ("- {name: a, kind: http, url: http://localhost/}\n", (), ("checks.0.url: belongs under `with`",)),
        ("- {name: a, kind: disk, used_percent: {lt: 9}}\n", (), ("belongs under `expect`",)),
        ("- {name: a, kind: probe, repeat_for: nodes}\n", (), ("must hold ${each}",)),
        ("- {name: a, kind: http, with: {url: 'http://h:80a/'}}\n", (), ("c.yaml:2:", "port")),
        (
            "- {name: a, kind: database, with: {url: 'postgresql://u:geheim#1@h:5432/d'}}\n",
            (),
            ("c.yaml:2:", "%23"),
        ),
    ],
)
def test_a_mistake_of_a_checklist_is_told_with_its_mend(
    home: Path, checks: str, arguments: tuple[str, ...], parts: tuple[str, ...]
):
    """The message names the place and what to write, and no secret; nothing is run."""
    result = verify(home, checks, *arguments)
    assert (result.status, result.out) == (78, "")
    assert all(part in result.err for part in parts), result.err
    assert "geheim" not in result.err


def test_a_folder_in_place_of_a_checklist_is_told(home: Path):
    """What to give instead is said of checklists, not of the configuration."""
    result = opskit("verify", ".", home=home)
    assert result.status == 78
    assert "it is a folder" in result.err
    assert "give a file" in result.err


def test_a_secret_among_the_words_of_a_command_is_not_shown(home: Path):
    """Neither a header, nor the value of an option, nor a password in a URL reaches a report."""
    words = "[sh, -c, 'exit 1', x, 'Authorization: Bearer geheim1', --token, geheim2, 'http://u:geheim3@h/']"
    result = verify(home, f"- {{name: a, kind: command, with: {{run: {words}}}}}\n", "--json")
    assert result.status == 1
    assert "geheim" not in result.out + result.err
