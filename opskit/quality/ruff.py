"""Docstrings, type hints, dangerous calls and likely bugs, as the rules of ruff see them.

ruff runs as a process of its own over standard input, without any configuration of the place it runs in, and
without heed for `noqa` comments: generated code must not excuse itself.
"""

import asyncio
import io
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from opskit.quality.issue import Category, Issue
from opskit.quality.module import Module

#: For one module; the worst file within the limit of size takes about 3 s.
TIMEOUT_S = 30.0

_SELECT = ("D101", "D102", "D103", "D106", "D419", "ANN", "S", "TID251", "F", "B")
_IGNORE = (
    "ANN401",  # Any is a type hint
    "S101",  # assert is how tests speak
    "S311",  # random numbers are seldom for secrets
    "S603",  # said of every process by the list below
    "S607",  # the same
)
#: Whatever starts a process; S602 and its kin speak of shells only. A name that is imported from its module
#: is told at the import, and not again where it is called.
_STARTS_PROCESS = (
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")),
    *(f"subprocess.{name}" for name in ("getoutput", "getstatusoutput")),
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
)
#: Careless, not dangerous by itself: all interfaces, temporary names, swallowed errors, weak hashes.
_CARELESS = frozenset({"S104", "S108", "S110", "S112", "S324"})
#: Python compiles none of these, although its grammar lets them pass.
_NOT_PYTHON = frozenset({"F404", "F622", "F701", "F702", "F704", "F706", "F707", "E999", "invalid-syntax"})


class NotJudged(Exception):  # noqa: N818 - a reason, turned into a finding
    """Why the rules could not be applied."""


def find() -> str | None:
    """The ruff of this Python; None when it is not installed."""
    try:
        from ruff.__main__ import find_ruff_bin  # where every release since 0.9 has it

        return str(find_ruff_bin())
    except (ImportError, FileNotFoundError):
        return None


async def judge(binary: str, module: Module, *, timeout_s: float = TIMEOUT_S) -> tuple[Issue, ...]:
    """What the rules find in a module that parses. Raises NotJudged."""
    out = await _run(binary, module, timeout_s)
    found = [_issue(module, row) for row in _rows(out)]
    shells = {(i.line, i.column) for i in found if i.category is Category.DANGEROUS and i.rule[0] == "S"}
    return tuple(i for i in found if i.rule != "TID251" or (i.line, i.column) not in shells)


async def _run(binary: str, module: Module, timeout_s: float) -> bytes:
    process = await asyncio.create_subprocess_exec(
        binary,
        *_arguments(module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"NO_COLOR": "1"},
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(module.code.encode("utf-8", "replace"))
    except TimeoutError as exc:
        raise NotJudged(f"ruff was stopped after {timeout_s:.0f} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in (0, 1):
        reason = " ".join(err.decode("utf-8", "replace").split())[:200] or f"status {process.returncode}"
        raise NotJudged(f"ruff failed: {reason}")
    return out


def _arguments(module: Module) -> list[str]:
    banned = ", ".join(f'"{name}" = {{msg = "it starts a process"}}' for name in _STARTS_PROCESS)
    ignored = [*_IGNORE]
    if module.pieces > 1:
        ignored += ["F404", "F811"]  # blocks of one answer may begin anew, and show one thing twice
    if module.name.endswith("__init__.py"):
        ignored.append("F401")  # an import there is an export
    return [
        "check",
        "--isolated",
        "--no-cache",
        "--no-fix",
        "--ignore-noqa",
        f"--select={','.join(_SELECT)}",
        f"--ignore={','.join(ignored)}",
        f"--target-version=py3{sys.version_info.minor}",
        "--config=lint.flake8-annotations.mypy-init-return = true",
        f"--config=lint.flake8-tidy-imports.banned-api = {{{banned}}}",
        "--output-format=json-lines",
        # A name of ours: rules treat tests and private modules differently.
        "--stdin-filename=code.py",
        "-",
    ]


def _rows(out: bytes) -> Iterator[Mapping[str, Any]]:
    for line in io.BytesIO(out):
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise NotJudged("ruff answered with something else than JSON") from exc
        if isinstance(row, dict):
            yield row


def _issue(module: Module, row: Mapping[str, Any]) -> Issue:
    rule = str(row.get("code") or "invalid-syntax")
    where = row.get("location") or {}
    line = int(where.get("row", 1))
    column = int(where.get("column", 1)) + module.shifts.get(line, 0)
    message = " ".join(str(row.get("message", "")).split())
    message = message.replace(" is banned: it starts a process", " starts a process")
    return Issue(module.name, line, column, category_of(rule), rule, message)


def category_of(rule: str) -> Category:
    """The question that a rule answers."""
    if rule in _NOT_PYTHON:
        return Category.SYNTAX
    if rule.startswith("ANN"):
        return Category.TYPE_HINTS
    if rule.startswith("D"):
        return Category.DOCSTRINGS
    if rule == "TID251" or (rule.startswith("S") and rule not in _CARELESS):
        return Category.DANGEROUS
    return Category.BUGS
