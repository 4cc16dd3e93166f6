"""What checklists may hold, and what is said with file and line when they cannot be used."""

import json
from pathlib import Path

import pytest

from opskit.checks.check_shape import kinds, schema
from opskit.checks.checklist import Checklist, ChecklistError, load, shipped
from opskit.checks.kinds import KINDS
from opskit.errors import ConfigError


def read(folder: Path, text: str, **variables: str) -> Checklist:
    (folder / "c.yaml").write_text(text)
    return load(["c.yaml"], given=variables, environ={"PORT": "9001"}, cwd=folder)


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(ChecklistError) as raised:
        read(folder, text)
    assert int(raised.value.exit) == 78
    return [str(problem) for problem in raised.value.problems]


KIND = "checks:\n- name: a\n  kind: "
TCP = KIND + "tcp\n  with: {port: 1}\n"
HEAD = "checks:\n  - {name: a, kind: tcp, with: {port: 1}}\n"


@pytest.mark.parametrize(
    "text, said",
    [
        (KIND + "tcp\n  kind: dns\n", "c.yaml:4:3: checks.0.kind: appears twice"),
        ("check: []\n" + HEAD, "c.yaml:1:1: check: unknown key; did you mean `checks`?"),
        ("checks: []\n", "c.yaml:1:1: checks: must be a list of checks"),
        ("title: x\n", "c.yaml: there are no checks"),
        ("checks:\n- kind: tcp\n  with: {port: 1}\n", "c.yaml:2:3: checks.0.name: is missing"),
        ("checks:\n- name: a\n", "checks.0.kind: is missing"),
        (KIND + "htp\n", "c.yaml:3:3: checks.0.kind: unknown kind; did you mean `http`?"),
        (
            KIND + "tcp\n  with: {prt: 1}\n",
            "c.yaml:4:10: checks.0.with.prt: unknown key; did you mean `port`?",
        ),
        (KIND + "tcp\n", "checks.0.with.port: is missing"),
        (KIND + "tcp\n  with: {port: 99999}\n", "c.yaml:4:10: checks.0.with.port: must be at most 65535"),
        (KIND + "http\n  with: {url: ftp://x}\n", "must be a URL such as"),
        (KIND + "process\n", "needs name, command (a pattern) or pid_file"),
        (KIND + "tcp\n  wth: {port: 1}\n", "c.yaml:4:3: checks.0.wth: unknown key; did you mean `with`?"),
        (TCP + "  wanted: {open: true}\n", "known: expect, kind, name"),
        (TCP + "  timout: 2s\n", "c.yaml:5:3: checks.0.timout: unknown key; did you mean `timeout`?"),
        (TCP + "  timeout: soon\n", "c.yaml:5:3: checks.0.timeout: must be a duration"),
        (TCP + "  severity: fatal\n", "c.yaml:5:3: checks.0.severity: must be 'critical'"),
        (TCP + "  expect: {}\n", "c.yaml:5:3: checks.0.expect: is empty"),
        (TCP + "  expect: {open: {}}\n", "c.yaml:5:12: checks.0.expect.open: an empty matcher"),
        (
            TCP + "  expect: {opn: true}\n",
            "c.yaml:5:12: checks.0.expect.opn: unknown key; did you mean `open`?",
        ),
        (KIND + "http\n  with: {url: 'http://h'}\n  expect: {json: {a: 1}}\n", "a JSONPath begins with $"),
        (HEAD + "  - {name: a, kind: tcp, with: {port: 2}}\n", "c.yaml:3:6: checks.1.name: a is the name"),
        (
            HEAD + "  - {name: b, kind: tcp, with: {port: 2}, requires: [c]}\n",
            "checks.1.requires.0: unknown check",
        ),
        (
            "checks:\n- {name: a, kind: cpu, requires: [b]}\n- {name: b, kind: cpu, requires: [a]}\n",
            "c.yaml:2:24: checks.0.requires: checks that wait for one another: a → b → a",
        ),
        ("checks:\n- {name: a, kind: cpu, requires: [a]}\n", "checks that wait for one another: a → a"),
        ("include: gone.yaml\n" + HEAD, "c.yaml:1:1: include: gone.yaml: No such file"),
        ("include: [c.yaml]\n" + HEAD, "c.yaml:1:11: include.0: c.yaml includes this file again"),
        (
            "vars: {a: '${NOPE}'}\n" + HEAD,
            "c.yaml:1:8: vars.a: NOPE is neither in `vars` nor in the environment",
        ),
        (KIND + "dns\n  with: {name: '${nope}'}\n", "c.yaml:4:10: checks.0.with.name: nope is neither"),
        (KIND + "dns\n  with: {name: '${x'}\n", "a `${` needs a name and a `}`"),
        (KIND + 'command\n  with: {run: "echo \'x"}\n', "cannot be cut into words"),
        (KIND + "command\n  with: {run: []}\n", "there is no command to run"),
        (
            KIND + "command\n  with: {run: 'echo down | grep -q up'}\n",
            'c.yaml:4:10: checks.0.with.run: no shell runs here, and `|` needs one: write `run: ["sh", "-c"',
        ),
        (
            "vars: {what: 'x | wc'}\n" + KIND + "command\n  with: {run: 'echo ${what}'}\n",
            "c.yaml:5:10: checks.0.with.run: no shell runs here, and `|` needs one",
        ),
        (KIND + "command\n  with: {run: 'echo $$HOME'}\n", "`$HOME` needs one"),
        (KIND + "command\n  with:\n    run: |\n      true\n      false\n", "a line break needs one"),
        ("checks: [\n", "c.yaml:2:1:"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, said: str):
    """Each mistake is a problem with its place, and the exit status is 78."""
    problems = refused(tmp_path, text)
    assert any(said in problem for problem in problems), problems


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    """Two mistakes in two checks give two problems."""
    text = "checks:\n- {name: a, kind: tcp}\n- {name: b, kind: dns}\n"
    assert len(refused(tmp_path, text)) == 2


def test_a_check_that_cannot_be_read_is_still_known_to_those_that_require_it(tmp_path: Path):
    """One mistake is one problem, not one for each dependant."""
    text = "checks:\n- {name: a, kind: tcp}\n- {name: b, kind: cpu, requires: [a]}\n"
    assert len(refused(tmp_path, text)) == 1


def test_a_circle_of_includes_is_refused(tmp_path: Path):
    """A file that comes back to itself through another is an error with the line of the include."""
    (tmp_path / "d.yaml").write_text("include: c.yaml\n" + HEAD)
    assert any("d.yaml:1:1" in one for one in refused(tmp_path, "include: d.yaml\n"))


def test_an_include_brings_its_checks_first_and_takes_variables(tmp_path: Path):
    """Included checks come first; the includer's variables win over the included file's own."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/d.yaml").write_text(
        "vars: {host: inner}\nchecks:\n- {name: d, kind: dns, with: {name: '${host}'}}\n"
    )
    found = read(tmp_path, "vars: {host: outer}\ninclude: sub/d.yaml\n" + HEAD)
    assert [check.name for check in found.checks] == ["d", "a"]
    assert found.checks[0].params.name == "outer"
    assert found.checks[0].where == "sub/d.yaml:3"


def test_a_variable_becomes_the_type_that_is_needed(tmp_path: Path):
    """`${PORT}` of the environment is a port, and --var wins over vars."""
    text = "vars: {host: a}\nchecks:\n- {name: a, kind: tcp, with: {host: '${host}', port: '${PORT}'}}\n"
    params = read(tmp_path, text, host="b").checks[0].params
    assert (params.host, params.port) == ("b", 9001)


def test_the_example_of_the_grammar_is_valid(tmp_path: Path):
    """Retry, timeout, severity, tags and remedy arrive as they are written."""
    text = """
title: Ollama and its container
vars: {ollama: "${OLLAMA_API_URL:-http://localhost:11434}"}
checks:
  - name: container runs
    kind: container
    with: {name: ollama}
    expect: {state: running, health: {any: [healthy, none]}}
  - name: api answers
    kind: http
    with: {url: "${ollama}/api/version"}
    expect: {status: 200, json: {"$.version": {matches: "^0\\\\."}}, seconds: {lt: 1}}
    requires: [container runs]
    retry: {count: 3, delay: 2s}
    timeout: 5s
    tags: [smoke]
    severity: critical
    remedy: "docker compose up -d ollama"
"""
    check = read(tmp_path, text).checks[1]
    assert (check.retries, check.delay_s, check.timeout_s) == (3, 2.0, 5.0)
    assert (check.severity, check.tags, check.requires) == ("critical", ("smoke",), ("container runs",))
    assert check.params.url == "http://localhost:11434/api/version"


def test_a_choice_brings_what_it_requires(tmp_path: Path):
    """A tag selects its checks and, with them, all they wait for."""
    text = "checks:\n- {name: a, kind: cpu}\n- {name: b, kind: cpu, requires: [a], tags: [x]}\n"
    text += "- {name: c, kind: cpu}\n"
    assert [one.name for one in read(tmp_path, text).choose(tags=["x"])] == ["a", "b"]


@pytest.mark.parametrize(
    "choice", [{"tags": ["nope"]}, {"names": ["nope*"]}, {"tags": ["x"], "names": ["c"]}]
)
def test_nothing_selected_is_an_error(tmp_path: Path, choice: dict[str, list[str]]):
    """Zero checks are a mistake of the command, never a pass."""
    text = "checks:\n- {name: b, kind: cpu, tags: [x]}\n- {name: c, kind: cpu}\n"
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text).choose(**choice)
    assert int(raised.value.exit) == 78


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_checklists_are_valid(name: str, tmp_path: Path):
    """Every list that comes with opskit loads without any variable set."""
    assert load([name], given={}, environ={}, cwd=tmp_path).checks


def test_all_promised_checklists_are_shipped():
    """The six lists of the README exist."""
    assert {"smoke", "stack", "worker", "victoria", "live_chain", "code_agents"} <= set(shipped())


def test_a_path_that_is_neither_file_nor_list_names_the_lists(tmp_path: Path):
    """A mistyped name is answered with what there is."""
    with pytest.raises(ConfigError) as raised:
        load(["smok"], given={}, environ={}, cwd=tmp_path)
    assert "smoke" in raised.value.remedy
    assert int(raised.value.exit) == 78


def test_the_schema_describes_every_kind():
    """Each kind has a rule with its parameters and values, and the whole is JSON."""
    rules = json.loads(json.dumps(schema()))["$defs"]["check"]["allOf"]
    assert [rule["if"]["properties"]["kind"]["const"] for rule in rules] == list(KINDS)
    assert all(rule["then"]["properties"]["expect"]["properties"] for rule in rules)


def test_kinds_tell_their_defaults():
    """Without `expect` something holds for every kind."""
    assert all(one["expects"] and one["yields"] for one in kinds())


def test_ten_thousand_bytes_of_aliases_are_refused(tmp_path: Path):
    """A YAML bomb ends in a problem, not in memory."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
    )
    assert any("too many values" in one for one in refused(tmp_path, bomb))
