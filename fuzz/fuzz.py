"""Fuzz one target, guided by the coverage of the compiled modules and of the Python ones.

    python -P fuzz/fuzz.py header -runs=10000000 fuzz/corpus/header

Everything after the target's name goes to libFuzzer. `fuzz/run` builds what this needs.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["ipv4.bpf"]):
    from targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {{{','.join(TARGETS)}}} [libFuzzer arguments]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
