"""A report of checks in the formats of other programs. Pure; the exit status never depends on the format,

except for nagios, whose plugins have a convention of their own.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree as ET

from opskit.result import Finding, Report, Status

_XML_REFUSES = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BAD = (Status.FAIL, Status.INCONCLUSIVE)
NAGIOS = {Status.PASS: 0, Status.SKIP: 0, Status.WARN: 1, Status.FAIL: 2, Status.INCONCLUSIVE: 3}
_NAGIOS_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def exit_status(report: Report, name: str) -> int:
    """0, 1 or 3; for nagios 0 to 3 (OK, WARNING, CRITICAL, UNKNOWN)."""
    return NAGIOS[report.status] if name == "nagios" else int(report.exit)


def summary(report: Report) -> str:
    """`12 passed, 1 failed, 2 inconclusive in 0.4 s` without what there is none of."""
    counts = Counter(finding.status for finding in report.findings)
    words = {
        Status.PASS: "passed",
        Status.WARN: "warned",
        Status.FAIL: "failed",
        Status.INCONCLUSIVE: "inconclusive",
        Status.SKIP: "skipped",
    }
    return ", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status])


def text(report: Report) -> str:
    lines = []
    for one in report.findings:
        lines.append(
            f"{one.status.value:<12} {_line(one.check)} [{_line(one.target)}] "
            f"{one.seconds:.3f} s: {_line(one.detail or one.state)}"
        )
        if one.remedy and one.status is not Status.PASS:
            lines.append(f"{'':<12} next: {_line(one.remedy)}")
    return "\n".join([*lines, summary(report), ""])


def as_json(report: Report) -> str:
    return json.dumps(report.as_json(), ensure_ascii=False, indent=2, default=str) + "\n"


def junit(report: Report) -> str:
    """One test suite; an inconclusive check is an error, a warning passes and says so."""
    counts = Counter(finding.status for finding in report.findings)
    numbers = {
        "tests": str(len(report.findings)),
        "failures": str(counts[Status.FAIL]),
        "errors": str(counts[Status.INCONCLUSIVE]),
        "skipped": str(counts[Status.SKIP]),
        "time": f"{sum(one.seconds for one in report.findings):.4f}",
    }
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", {"name": f"opskit {report.command}", **numbers})
    for one in report.findings:
        case = ET.SubElement(
            suite, "testcase", classname=_xml(one.target), name=_xml(one.check), time=f"{one.seconds:.4f}"
        )
        told = _xml(one.detail + (f"\nnext: {one.remedy}" if one.remedy else ""))
        message, label = _xml(one.detail), _xml(one.code or one.state)
        match one.status:
            case Status.FAIL:
                ET.SubElement(case, "failure", message=message, type=label).text = told
            case Status.INCONCLUSIVE:
                ET.SubElement(case, "error", message=message, type=label).text = told
            case Status.SKIP:
                ET.SubElement(case, "skipped", message=message)
            case Status.WARN:
                ET.SubElement(case, "system-out").text = f"warning: {told}"
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def tap(report: Report) -> str:
    """TAP version 14. An inconclusive check is not ok."""
    lines = ["TAP version 14", f"1..{len(report.findings)}"]
    for number, one in enumerate(report.findings, 1):
        word = "not ok" if one.status in _BAD else "ok"
        name = _line(one.check).replace("\\", "\\\\").replace("#", "\\#")
        if one.status is Status.SKIP:
            lines.append(f"ok {number} - {name} # SKIP {_line(one.detail)}")
            continue
        lines.append(f"{word} {number} - {name}")
        if one.status is not Status.PASS:
            told = {
                "status": one.status.value,
                "target": one.target,
                "detail": one.detail,
                "remedy": one.remedy,
            }
            # A text in JSON is a text in YAML too.
            lines += ["  ---", *(f"  {key}: {json.dumps(value)}" for key, value in told.items()), "  ..."]
    return "\n".join([*lines, ""])


def nagios(report: Report) -> str:
    """One line and performance data."""
    word = _NAGIOS_WORDS[NAGIOS[report.status]]
    bad = [one for one in report.findings if one.status in (*_BAD, Status.WARN)]
    named = "; ".join(f"{one.check}: {one.detail}" for one in bad[:5])
    more = f" (and {len(bad) - 5} more)" if len(bad) > 5 else ""
    counts = Counter(finding.status for finding in report.findings)
    total = sum(one.seconds for one in report.findings)
    data = " ".join(
        [
            f"failed={counts[Status.FAIL]};;1;0;{len(report.findings)}",
            f"inconclusive={counts[Status.INCONCLUSIVE]};;;0;{len(report.findings)}",
            f"warned={counts[Status.WARN]};1;;0;{len(report.findings)}",
            f"passed={counts[Status.PASS]};;;0;{len(report.findings)}",
            f"time={total:.4f}s;;;0",
        ]
    )
    told = f"{summary(report)}{': ' + named if named else ''}{more}"
    return f"OPSKIT {word}: {_line(told).replace('|', '/')} | {data}\n"


def prometheus(report: Report) -> str:
    """Text exposition 0.0.4, for a textfile collector. What was skipped has no status."""
    asked = [one for one in report.findings if one.status is not Status.SKIP]
    rows = [
        _family("opskit_check_status", "1 when the check passed or only warned, 0 when not"),
        *(_sample("opskit_check_status", one, str(int(one.status not in _BAD))) for one in asked),
        _family("opskit_check_inconclusive", "1 when the check could not be judged"),
        *(
            _sample("opskit_check_inconclusive", one, str(int(one.status is Status.INCONCLUSIVE)))
            for one in asked
        ),
        _family("opskit_check_seconds", "how long the check took"),
        *(_sample("opskit_check_seconds", one, f"{one.seconds:.6f}") for one in asked),
        _family("opskit_checks", "number of checks by status"),
    ]
    counts = Counter(finding.status for finding in report.findings)
    rows += [f'opskit_checks{{status="{status.value}"}} {counts[status]}' for status in Status]
    return "\n".join([*rows, ""])


def _family(name: str, meaning: str) -> str:
    return f"# HELP {name} {meaning}\n# TYPE {name} gauge"


def _sample(name: str, one: Finding, value: str) -> str:
    labels = {
        "check": one.check,
        "target": one.target,
        "kind": str(one.evidence.get("kind", "")),
        "severity": str(one.evidence.get("severity", "")),
    }
    shown = ",".join(f'{key}="{_label(text_)}"' for key, text_ in labels.items())
    return f"{name}{{{shown}}} {value}"


def markdown(report: Report) -> str:
    lines = [
        f"**{report.status.value}**: {summary(report)}",
        "",
        "| check | target | status | seconds | detail |",
    ]
    lines.append("| --- | --- | --- | ---: | --- |")
    for one in report.findings:
        told = one.detail + (f" Next: {one.remedy}" if one.remedy and one.status is not Status.PASS else "")
        cells = (one.check, one.target, one.status.value, f"{one.seconds:.3f}", told)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
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


def _line(value: str) -> str:
    return "".join(char if char.isprintable() else " " for char in value)


def _xml(value: str) -> str:
    return _XML_REFUSES.sub("?", value)


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _cell(value: str) -> str:
    return _line(value).replace("\\", "\\\\").replace("|", "\\|")
