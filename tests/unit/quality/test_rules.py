"""Syntax and rules on small pieces of code, with the real ruff."""

import pytest

from opskit.quality import rules
from opskit.quality.rules import Category, Issue, modules, parse
from opskit.quality.source import CodeSource, in_markdown

RUFF = rules.find_ruff() or "ruff is not installed"


async def judge(code: str, name: str = "code.py") -> list[Issue]:
    parsed = parse(CodeSource(name, code))
    (module,) = modules([parsed])
    return [*parsed.issues, *await rules.judge(RUFF, module)]


async def in_category(code: str, category: Category) -> list[tuple[str, int]]:
    return [(issue.rule, issue.line) for issue in await judge(code) if issue.category is category]


@pytest.mark.parametrize(
    "code, line",
    [
        ("def f(:\n", 1),
        ("x = 1\nif x\n    y = 2\n", 2),
        ("def f():\nreturn 1\n", 2),
        ("x = (1,\n", 1),
        ("a\0b", 1),
        ("-" * 500_000 + "1", 1),
        ("a" + ".a" * 300_000, 1),
        ("(" * 1000, 1),
    ],
    ids=["token", "colon", "indent", "bracket", "nul", "depth", "chain", "nesting"],
)
def test_code_that_does_not_parse_is_told_with_its_place(code, line):
    """A syntax error has line, column and a reason on one line, however broken the code is."""
    parsed = parse(CodeSource("x.py", code))
    (issue,) = parsed.issues
    assert not parsed.parses
    assert (issue.category, issue.line) == (Category.SYNTAX, line)
    assert issue.column >= 1
    assert len(issue.message.splitlines()) == 1


def test_an_error_in_a_block_is_told_in_lines_of_the_answer():
    """Line and column lead to the place in the Markdown, list indentation included."""
    (source,) = in_markdown("1. so\n\n   ```python\n   a = 1\n   b = = 2\n   ```\n", "answer.md")
    (issue,) = parse(source).issues
    assert (issue.line, issue.column) == (5, 8)


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "exec(x)",
        '__import__("os")',
        'import builtins\nbuiltins.__import__("os")',
        'import os\nos.system("ls")',
        'import os\nos.popen("ls")',
        'import subprocess\nsubprocess.run(["ls"], check=True)',
        'import subprocess as sp\nsp.Popen("ls", shell=True)',
        'import asyncio\nasyncio.create_subprocess_shell("ls")',
        "import pickle\npickle.loads(x)",
        "import yaml\nyaml.load(x)",
        'import requests\nrequests.get("http://x")',
        'import requests\nrequests.get("https://x", verify=False, timeout=1)',
        'password = "hunter2hunter2"',
        'db.execute("select * from t where a = %s" % a)',
    ],
)
async def test_a_dangerous_call_is_found_once(code):
    """Each dangerous call is one issue at its own line, the import before it is none."""
    found = await in_category(f"{code}\n", Category.DANGEROUS)
    assert [line for _, line in found] == [code.count("\n") + 1]


async def test_columns_count_characters():
    """Letters of any alphabet are one column each, by the parser's count and by the rules'."""
    issues = await judge('x = "да"; __import__("os"); eval("1")\n')
    assert [(issue.rule, issue.column) for issue in issues] == [("__import__", 11), ("S307", 29)]


async def test_a_process_starter_imported_by_name_is_told_at_its_import():
    """The import of `check_output` itself says what the code is about to do."""
    code = 'from subprocess import check_output\ncheck_output(["ls"])\n'
    assert await in_category(code, Category.DANGEROUS) == [("TID251", 1)]


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\n",
        "import ast\nast.literal_eval(x)\n",
        "import yaml\nyaml.safe_load(x)\n",
        'import requests\nrequests.get("http://x", timeout=5)\n',
        "assert 1 == 1\n",
        "evaluate(x)\n",
        'text = "eval(x)"  # exec(y)\n',
    ],
)
async def test_what_only_looks_dangerous_is_not(code):
    """Words in strings and comments, safe kin and imports alone are no dangerous calls."""
    assert await in_category(code, Category.DANGEROUS) == []


@pytest.mark.parametrize(
    "comment",
    ["eval(x)  # noqa", "eval(x)  # noqa: S307", "# ruff: noqa\neval(x)", "# flake8: noqa\neval(x)"],
)
async def test_generated_code_cannot_excuse_itself(comment):
    """Comments that silence a linter silence nothing here."""
    assert len(await in_category(f"{comment}\n", Category.DANGEROUS)) == 1


async def test_missing_docstrings_are_found_where_they_are_due():
    """Public functions, classes and methods need one; private ones do not."""
    code = "def f():\n    pass\n\n\nclass A:\n    def g(self):\n        pass\n\n    def _h(self): ...\n"
    assert [line for _, line in await in_category(code, Category.DOCSTRINGS)] == [1, 5, 6]


async def test_an_empty_docstring_is_none():
    """A docstring without words is missing."""
    assert await in_category('def f():\n    """"""\n', Category.DOCSTRINGS) != []


async def test_missing_type_hints_are_found():
    """Arguments and results without hints are found; Any is a hint."""
    code = "from typing import Any\n\n\ndef f(a, b: int, c: Any):\n    return a\n"
    assert await in_category(code, Category.TYPE_HINTS) == [("ANN201", 4), ("ANN001", 4)]


async def test_likely_bugs_are_found():
    """Undefined names and mutable defaults are no syntax errors, and still wrong."""
    found = await in_category("def f(a=[]):\n    return b\n", Category.BUGS)
    assert {rule for rule, _ in found} == {"B006", "F821"}


@pytest.mark.parametrize("code", ["return 1\n", "break\n", "def f():\n    x = 1\nyield 2\n"])
async def test_what_python_does_not_compile_is_a_syntax_error(code):
    """The grammar lets it pass, the compiler does not."""
    assert len(await in_category(code, Category.SYNTAX)) == 1


@pytest.mark.parametrize("name", ["test_a.py", "_private.py", "code.py"])
async def test_the_name_of_a_file_changes_no_rule(name):
    """A test or a private module is judged as any other code."""
    assert len(await judge("def f():\n    eval(x)\n", name)) == 4


async def test_an_import_in_a_package_file_is_an_export():
    """`__init__.py` exists to import."""
    assert await judge("import os\n", "pkg/__init__.py") == []
    assert [issue.rule for issue in await judge("import os\n", "pkg/a.py")] == ["F401"]


async def test_blocks_of_one_answer_are_judged_together():
    """What the first block imports, the second may use, and its call is recognised for what it is."""
    text = "```python\nimport os\n```\nthen\n```python\nos.system(x)\n```\n"
    (module,) = modules([parse(source) for source in in_markdown(text, "a.md")])
    issues = await rules.judge(RUFF, module)
    assert [(i.rule, i.line) for i in issues] == [("S605", 6), ("F821", 6)]


async def test_a_rule_in_a_block_is_told_in_lines_and_columns_of_the_answer():
    """The place of an issue in an indented block is its place in the Markdown."""
    (module,) = modules([parse(s) for s in in_markdown("1. so\n\n   ```py\n   eval(1)\n   ```\n", "a.md")])
    (issue,) = await rules.judge(RUFF, module)
    assert (issue.line, issue.column) == (4, 4)


async def test_settings_of_the_surroundings_do_not_reach_the_rules(tmp_path, monkeypatch):
    """Neither a configuration in the folder nor the environment changes what is found."""
    (tmp_path / "ruff.toml").write_text('lint.ignore = ["S307"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "out"))
    assert [issue.rule for issue in await judge("eval(1)\n")] == ["S307"]


async def test_rules_that_take_too_long_are_stopped(tmp_path):
    """A ruff that hangs is killed at its deadline, and that is told."""
    hanging = tmp_path / "ruff"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    (module,) = modules([parse(CodeSource("a.py", "x = 1\n"))])
    with pytest.raises(rules.NotJudgedError, match="stopped"):
        await rules.judge(str(hanging), module, timeout_s=0.2)


@pytest.mark.parametrize("script", ["echo broken >&2; exit 2", "echo no json; exit 1", "kill -9 $$"])
async def test_rules_that_fail_are_told(tmp_path, script):
    """A ruff that breaks down or speaks otherwise is no verdict on the code."""
    failing = tmp_path / "ruff"
    failing.write_text(f"#!/bin/sh\n{script}\n")
    failing.chmod(0o755)
    (module,) = modules([parse(CodeSource("a.py", "x = 1\n"))])
    with pytest.raises(rules.NotJudgedError):
        await rules.judge(str(failing), module)
