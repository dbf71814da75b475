"""A gate's outcome as JUnit XML: one case a check; fail is a failure, inconclusive is skipped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from reports.gates.judging import RULE, Check, Outcome
from reports.wording import bounds, number

# Characters that XML 1.0 can't hold, escaped or not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(outcome: Outcome) -> bytes:
    """Return the document, in UTF-8."""
    counts = {
        "tests": str(len(outcome.checks)),
        "failures": str(outcome.count("fail")),
        "errors": "0",
        "skipped": str(outcome.count("inconclusive")),
        "time": "0",
    }
    root = ET.Element("testsuites", {"name": "harness gate", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": _xml(outcome.run), **counts})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("limits", outcome.limits), ("verdict", outcome.verdict), ("rule", RULE)):
        ET.SubElement(properties, "property", {"name": name, "value": _xml(value)})
    for note in outcome.notes:
        ET.SubElement(properties, "property", {"name": "note", "value": _xml(note)})
    for check in outcome.checks:
        _case(suite, check)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _case(suite: ET.Element, check: Check) -> None:
    # A named limit may hold several metrics against the same subject.
    name = check.subject if check.name == check.demand else f"{check.subject}: {check.demand}"
    names = {"classname": _xml(check.name), "name": _xml(name), "time": "0"}
    case = ET.SubElement(suite, "testcase", names)
    if check.verdict == "fail":
        element = ET.SubElement(
            case, "failure", {"type": "limit", "message": _xml(f"{check.demand}: {check.reason}")}
        )
        element.text = _xml(_measured(check))
    elif check.verdict == "inconclusive":
        message = f"inconclusive: {check.demand}: {check.reason}"
        ET.SubElement(case, "skipped", {"message": _xml(message)}).text = _xml(_measured(check))


def _measured(check: Check) -> str:
    return (
        f"{number(check.interval.value)} {bounds(check.interval)}, n {check.interval.n}, "
        f"seeds {check.seeds}, limit on line {check.line}"
    )


def _xml(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
