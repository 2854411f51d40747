"""Fail if a run of the tests skipped any of them for an unforeseen reason.

Usage: skipped.py JUNIT-XML [REGULAR-EXPRESSION-OF-FORESEEN-REASONS]
"""

import re
import sys
import xml.etree.ElementTree as ElementTree


def main(report: str, foreseen: str = "") -> int:
    suite = ElementTree.parse(report).getroot()
    ran, unforeseen = 0, []
    for case in suite.iter("testcase"):
        skip = case.find("skipped")
        if skip is None or skip.get("type") == "pytest.xfail":
            ran += 1
            continue
        reason = skip.get("message", "")
        if not (foreseen and re.search(foreseen, reason)):
            unforeseen.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    for line in unforeseen:
        print("skipped:", line, file=sys.stderr)
    if not ran:
        print("no test ran", file=sys.stderr)
    return 1 if unforeseen or not ran else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
