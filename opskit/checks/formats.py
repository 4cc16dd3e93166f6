"""A report of checks in the formats of other programs. Pure.

The exit status does not depend on the format, but for nagios, whose plugins have a convention of their own.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree as ET

from opskit.result import Finding, Report, Status
from opskit.text import and_more, printable

_XML_REFUSES = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BAD = (Status.FAIL, Status.INCONCLUSIVE)
_WORDS = {
    Status.PASS: "passed",
    Status.WARN: "warned",
    Status.FAIL: "failed",
    Status.INCONCLUSIVE: "inconclusive",
    Status.SKIP: "skipped",
}
_NAGIOS = {Status.PASS: 0, Status.SKIP: 0, Status.WARN: 1, Status.FAIL: 2, Status.INCONCLUSIVE: 3}
_NAGIOS_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def exit_status(report: Report, name: str) -> int:
    """0, 1 or 3; for nagios 0 to 3 (OK, WARNING, CRITICAL, UNKNOWN)."""
    return _NAGIOS[report.status] if name == "nagios" else int(report.exit)


def summary(report: Report) -> str:
    """`12 passed, 1 failed, 2 inconclusive` without what there is none of."""
    counts = _counts(report)
    return ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status])


def text(report: Report) -> str:
    lines = []
    for finding in report.findings:
        lines.append(
            f"{finding.status.value:<12} {printable(finding.check)} [{printable(finding.target)}] "
            f"{finding.seconds:.3f} s: {printable(finding.detail or finding.state)}"
        )
        if finding.remedy and finding.status is not Status.PASS:
            lines.append(f"{'':<12} next: {printable(finding.remedy)}")
    return "\n".join([*lines, summary(report), ""])


def as_json(report: Report) -> str:
    return json.dumps(report.as_json(), ensure_ascii=False, indent=2, default=str) + "\n"


def junit(report: Report) -> str:
    """One test suite; an inconclusive check is an error, a warning passes and says so."""
    counts, total = _counts(report), len(report.findings)
    names = {"failures": Status.FAIL, "errors": Status.INCONCLUSIVE, "skipped": Status.SKIP}
    figures = {name: str(counts[status]) for name, status in names.items()}
    head = {"name": f"opskit {report.command}", "tests": str(total), **figures}
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", head, time=f"{_seconds(report):.4f}")
    for finding in report.findings:
        about = {"classname": _xml(finding.target), "name": _xml(finding.check)}
        case = ET.SubElement(suite, "testcase", about, time=f"{finding.seconds:.4f}")
        message, label = _xml(finding.detail), _xml(finding.code or finding.state)
        content = message + (f"\nnext: {_xml(finding.remedy)}" if finding.remedy else "")
        if finding.status in _BAD:
            element = "failure" if finding.status is Status.FAIL else "error"
            ET.SubElement(case, element, message=message, type=label).text = content
        elif finding.status is Status.SKIP:
            ET.SubElement(case, "skipped", message=message)
        elif finding.status is Status.WARN:
            ET.SubElement(case, "system-out").text = f"warning: {content}"
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def tap(report: Report) -> str:
    """TAP version 14. An inconclusive check is not ok."""
    lines = ["TAP version 14", f"1..{len(report.findings)}"]
    for number, finding in enumerate(report.findings, 1):
        word = "not ok" if finding.status in _BAD else "ok"
        name = printable(finding.check).replace("\\", "\\\\").replace("#", "\\#")
        if finding.status is Status.SKIP:
            lines.append(f"ok {number} - {name} # SKIP {printable(finding.detail)}")
            continue
        lines.append(f"{word} {number} - {name}")
        if finding.status is not Status.PASS:
            # A text in JSON is a text in YAML too.
            row = finding.as_json()
            shown = [f"  {key}: {json.dumps(row[key])}" for key in ("status", "target", "detail", "remedy")]
            lines += ["  ---", *shown, "  ..."]
    return "\n".join([*lines, ""])


def nagios(report: Report) -> str:
    """One line and performance data."""
    word = _NAGIOS_WORDS[_NAGIOS[report.status]]
    bad = [finding for finding in report.findings if finding.status in (*_BAD, Status.WARN)]
    named = "; ".join(f"{finding.check}: {finding.detail}" for finding in bad[:5])
    total, counts = len(report.findings), _counts(report)
    data = (
        f"failed={counts[Status.FAIL]};;1;0;{total} inconclusive={counts[Status.INCONCLUSIVE]};;;0;{total} "
        f"warned={counts[Status.WARN]};1;;0;{total} passed={counts[Status.PASS]};;;0;{total} "
        f"time={_seconds(report):.4f}s;;;0"
    )
    line = f"{summary(report)}{': ' + named if named else ''}{and_more(len(bad) - 5)}"
    return f"OPSKIT {word}: {printable(line).replace('|', '/')} | {data}\n"


def prometheus(report: Report) -> str:
    """Text exposition 0.0.4, for a textfile collector. What was skipped has no status."""
    judged = [finding for finding in report.findings if finding.status is not Status.SKIP]
    head = "# HELP {0} {1}\n# TYPE {0} gauge"
    families: dict[tuple[str, str], Callable[[Finding], str]] = {
        ("opskit_check_status", "1 when the check passed or only warned, 0 when not"): (
            lambda finding: str(int(finding.status not in _BAD))
        ),
        ("opskit_check_inconclusive", "1 when the check could not be judged"): (
            lambda finding: str(int(finding.status is Status.INCONCLUSIVE))
        ),
        ("opskit_check_seconds", "how long the check took"): lambda finding: f"{finding.seconds:.6f}",
    }
    rows = []
    for family, value in families.items():
        rows.append(head.format(*family))
        rows += [f"{family[0]}{{{_labels(finding)}}} {value(finding)}" for finding in judged]
    rows.append(head.format("opskit_checks", "number of checks by status"))
    rows += [f'opskit_checks{{status="{status.value}"}} {_counts(report)[status]}' for status in Status]
    return "\n".join([*rows, ""])


def _labels(finding: Finding) -> str:
    of_check = {name: str(finding.evidence.get(name, "")) for name in ("kind", "severity")}
    labels = {"check": finding.check, "target": finding.target, **of_check}
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    return ",".join(f'{key}="{value.translate(escapes)}"' for key, value in labels.items())


def markdown(report: Report) -> str:
    lines = [
        f"**{report.status.value}**: {summary(report)}",
        "",
        "| check | target | status | seconds | detail |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for finding in report.findings:
        advice = f" Next: {finding.remedy}" if finding.remedy and finding.status is not Status.PASS else ""
        status, seconds = finding.status.value, f"{finding.seconds:.3f}"
        cells = (finding.check, finding.target, status, seconds, finding.detail + advice)
        escaped = (printable(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join([*lines, ""])


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": as_json,
    "junit": junit,
    "tap": tap,
    "nagios": nagios,
    "prometheus": prometheus,
    "markdown": markdown,
}


def _counts(report: Report) -> Counter[Status]:
    return Counter(finding.status for finding in report.findings)


def _seconds(report: Report) -> float:
    return sum(finding.seconds for finding in report.findings)


def _xml(value: str) -> str:
    return _XML_REFUSES.sub("?", value)
