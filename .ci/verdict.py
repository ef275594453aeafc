"""Refuses a green test run that tested too little: nothing at all, or not what the shared data were there for."""

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def objections(report: Path, *, shared_required: bool) -> list[str]:
    """Read a JUnit report of pytest and return what is wrong with calling it green; one line each."""
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314  our own pytest wrote it a moment ago
    skipped = [(case, skip) for case in cases if (skip := case.find("skipped")) is not None]
    found = []
    if len(cases) == len(skipped):
        found.append(f"No test ran: {len(cases)} collected, {len(skipped)} skipped.")
    if shared_required:
        for case, skip in skipped:
            reason = f"{skip.get('message', '')} {skip.text or ''}"
            if "shared" in reason.lower():
                name = f"{case.get('classname')}::{case.get('name')}"
                found.append(f"{name} was skipped though the shared data are there: {skip.get('message')}")
    return found


if __name__ == "__main__":
    lines = objections(Path(sys.argv[1]), shared_required=os.environ.get("PIXMILL_REQUIRE_SHARED") == "1")
    sys.exit("\n".join(lines) or 0)
