"""Programs that tests may need, and the Debian packages that bring them (programs.txt)."""

import functools
import shutil
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def packages() -> dict[str, str]:
    """Return the package of each program; `.ci/run` reads the same file."""
    lines = Path(__file__).with_name("programs.txt").read_text().splitlines()
    return dict(line.split() for line in lines)


def lacking(programs: Iterable[str]) -> str:
    """Say which of these programs are not installed and what brings them, or ""."""
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return ""
    known = sorted({packages()[name] for name in missing if name in packages()})
    where = f"apt-get install {' '.join(known)}" if known else "not installed"
    return f"needs {', '.join(missing)}: {where}"
