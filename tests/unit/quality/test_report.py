"""From issues to findings and an exit status."""

import pytest

from opskit.errors import Exit
from opskit.quality.rules import Category, Quality, find_ruff, judged
from opskit.quality.source import CodeSource, ReadSources
from opskit.result import Status

GOOD = 'def f(a: int) -> int:\n    """Double it."""\n    return a * 2\n'
PLAIN = "def f(a):\n    return a\n"
BROKEN = "def f(:\n"
DANGEROUS = f"{GOOD}\n\neval(f(1))\n"


async def of(*codes: str, binary: str | None = find_ruff(), strict: bool = False) -> Quality:
    sources = tuple(CodeSource(f"{number}.py", code) for number, code in enumerate(codes))
    return await judged(ReadSources(sources), binary=binary, strict=strict)


def statuses(quality: Quality) -> dict[str, Status]:
    return {finding.check: finding.status for finding in quality.report.findings}


@pytest.mark.parametrize(
    "codes, strict, exit_",
    [
        ([GOOD], False, Exit.OK),
        ([GOOD], True, Exit.OK),
        ([""], False, Exit.OK),
        ([PLAIN], False, Exit.OK),
        ([PLAIN], True, Exit.FAILED),
        ([BROKEN], False, Exit.FAILED),
        ([DANGEROUS], False, Exit.FAILED),
        ([GOOD, BROKEN], False, Exit.FAILED),
    ],
    ids=["good", "good-strict", "empty", "plain", "plain-strict", "broken", "dangerous", "one-of-two"],
)
async def test_the_exit_status_follows_the_gravest_category(codes, strict, exit_):
    """Broken and dangerous code fails, missing hints and docstrings warn, and fail when asked to."""
    assert (await of(*codes, strict=strict)).report.exit is exit_


async def test_there_is_one_finding_for_each_category():
    """Every question has an answer, in one order."""
    assert list(statuses(await of(GOOD))) == [category.value for category in Category]


async def test_code_that_does_not_parse_is_not_judged_further():
    """The other questions are skipped, because nothing could be asked."""
    found = statuses(await of(BROKEN))
    assert found.pop("syntax") is Status.FAIL
    assert set(found.values()) == {Status.SKIP}


async def test_pieces_that_parse_are_judged_beside_one_that_does_not():
    """One broken file hides nothing of the others."""
    found = statuses(await of(BROKEN, DANGEROUS))
    assert (found["syntax"], found["dangerous calls"]) == (Status.FAIL, Status.FAIL)


async def test_without_ruff_syntax_is_judged_and_the_rest_is_open():
    """The command to install it stands with every open question; the exit status is 3."""
    quality = await of(GOOD, binary=None)
    found = statuses(quality)
    assert found.pop("syntax") is Status.PASS
    assert set(found.values()) == {Status.INCONCLUSIVE}
    assert {f.remedy for f in quality.report.findings[1:]} == {"`pip install 'opskit[quality]'`"}
    assert quality.report.exit is Exit.INCONCLUSIVE


async def test_the_import_function_is_found_without_ruff():
    """What Python's parser shows is told with or without the rules."""
    found = statuses(await of('__import__("os")\n', binary=None))
    assert found["dangerous calls"] is Status.FAIL


async def test_a_file_that_could_not_be_read_leaves_the_question_open():
    """A folder with an unreadable file is not judged clean."""
    quality = await judged(
        ReadSources((CodeSource("a.py", GOOD),), (("b.py", "it is binary"),)), binary=find_ruff()
    )
    assert quality.report.exit is Exit.INCONCLUSIVE
    assert quality.report.findings[-1].target == "b.py"


async def test_rules_that_fail_leave_the_question_open(tmp_path):
    """A ruff that breaks down is no clean result."""
    failing = tmp_path / "ruff"
    failing.write_text("#!/bin/sh\nexit 2\n")
    failing.chmod(0o755)
    assert (await of(GOOD, binary=str(failing))).report.exit is Exit.INCONCLUSIVE


async def test_the_gravest_places_come_first():
    """A reader of the first lines sees what matters."""
    issues = (await of(PLAIN, DANGEROUS, BROKEN)).issues
    assert [issue.category for issue in issues][:2] == [Category.SYNTAX, Category.DANGEROUS]


async def test_counts_are_told_by_rule():
    """The evidence of a category has its number and its rules."""
    quality = await of(DANGEROUS, DANGEROUS)
    (finding,) = [f for f in quality.report.findings if f.check == "dangerous calls"]
    assert finding.evidence == {"count": 2, "rules": {"S307": 2}}
