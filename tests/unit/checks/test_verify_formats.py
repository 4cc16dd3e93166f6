"""Every format: it can be read by its readers, and it does not change the exit status."""

import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.formats import FORMATS, exit_status
from opskit.result import Finding, Report, Status

TEXT = st.text(max_size=40)
FINDINGS = st.lists(
    st.builds(
        Finding,
        check=TEXT,
        target=TEXT,
        status=st.sampled_from(Status),
        state=TEXT,
        detail=TEXT,
        code=st.sampled_from([None, "COMM_001"]),
        remedy=st.none() | TEXT,
        seconds=st.floats(0, 1000),
        evidence=st.just({"kind": "http", "severity": "error"}),
    ),
    min_size=1,
    max_size=6,
)
OUTCOMES = {
    Status.PASS: (0, 0),
    Status.WARN: (0, 1),
    Status.FAIL: (1, 2),
    Status.INCONCLUSIVE: (3, 3),
}


def report(*found: Finding) -> Report:
    return Report("verify", found)


def finding(status: Status, name: str = "it") -> Finding:
    return Finding(name, "here", status, "state", "what happened", seconds=0.25, evidence={"kind": "tcp"})


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("status", OUTCOMES)
def test_the_format_does_not_change_the_exit_status(form: str, status: Status):
    """0, 1 and 3 are the same for every format; nagios follows its plugins: 0, 1, 2, 3."""
    found = report(finding(Status.PASS), finding(status), finding(Status.SKIP))
    assert exit_status(found, form) == OUTCOMES[status][form == "nagios"]


@given(FINDINGS)
def test_no_text_breaks_a_format(found: list[Finding]):
    """Whatever a check is called and says, the output keeps its form."""
    whole = report(*found)
    assert json.loads(FORMATS["json"](whole))["findings"][0]["check"] == found[0].check
    suite = ET.fromstring(FORMATS["junit"](whole)).find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase")) == len(found)
    tap = FORMATS["tap"](whole).splitlines()
    assert tap[:2] == ["TAP version 14", f"1..{len(found)}"]
    assert sum(line.startswith(("ok ", "not ok ")) for line in tap) == len(found)
    nagios = FORMATS["nagios"](whole)
    assert nagios.count("\n") == 1
    assert nagios.count("|") == 1
    rows = [line for line in FORMATS["markdown"](whole).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) for row in rows} == {6}


SAMPLE = re.compile(r'[a-z_]+\{([a-z]+="(\\.|[^"\\\n])*",?)*\} [0-9.e+-]+')


@given(FINDINGS)
def test_prometheus_can_read_every_line(found: list[Finding]):
    """Each line is a comment or a sample of the text format 0.0.4, each family begins once."""
    lines = FORMATS["prometheus"](report(*found)).rstrip("\n").split("\n")
    comments = [line for line in lines if line.startswith("# ")]
    assert all(SAMPLE.fullmatch(line) for line in lines if line not in comments)
    assert len(comments) == len(set(comments))


def test_prometheus_tells_status_and_seconds():
    """A failed check has status 0, a passed one 1, and what was skipped has none."""
    text = FORMATS["prometheus"](
        report(finding(Status.PASS, "a"), finding(Status.FAIL, "b"), finding(Status.SKIP, "c"))
    )
    assert 'opskit_check_status{check="a",target="here",kind="tcp",severity=""} 1' in text
    assert 'opskit_check_status{check="b",target="here",kind="tcp",severity=""} 0' in text
    assert 'opskit_check_seconds{check="a",target="here",kind="tcp",severity=""} 0.250000' in text
    assert 'check="c"' not in text


def test_junit_counts_each_outcome():
    """Failures, errors (inconclusive) and skips are counted as JUnit counts them."""
    text = FORMATS["junit"](report(*(finding(status, status.value) for status in Status)))
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }


def test_tap_marks_skips_and_failures():
    """A skip carries its reason, a failure its diagnosis; an inconclusive check is not ok."""
    lines = FORMATS["tap"](report(*(finding(status, status.value) for status in Status))).splitlines()
    assert "ok 1 - pass" in lines
    assert "not ok 3 - fail" in lines
    assert "ok 4 - skip # SKIP what happened" in lines
    assert "not ok 5 - inconclusive" in lines
    assert '  detail: "what happened"' in lines


def test_nagios_says_it_in_one_line():
    """The word, the counts, what is wrong, and performance data."""
    text = FORMATS["nagios"](report(finding(Status.PASS), finding(Status.FAIL, "db")))
    assert text.startswith("OPSKIT CRITICAL: 1 passed, 1 failed: db: what happened | failed=1;;1;0;2 ")


def test_text_says_what_to_do_next():
    """A remedy stands below its check, except when all is well."""
    one = Finding("a", "t", Status.FAIL, detail="broken", remedy="mend it")
    assert "next: mend it" in FORMATS["text"](report(one))
