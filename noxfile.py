"""One command for each thing that is known of a commit: ``nox -s tests``, ``nox -l`` for the list.

Each session has an environment of its own. ``.ci/run`` is all of it on one machine, and more.
"""

from pathlib import Path

import nox

ROOT = Path(__file__).parent
TYPING = ROOT / "tests" / "typing"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Look over the sources: ruff, cython-lint, and which way the imports go."""
    session.install("ruff>=0.12", "cython-lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "ipv4")
    session.run("python", "tools/floors.py")


@nox.session
def types(session: nox.Session) -> None:
    """Hold the stubs against the library, and typed programs against the stubs."""
    session.install(".[test,lint]")
    config = ROOT / "pyproject.toml"
    allowed = TYPING / "stubtest-allowlist.txt"
    # Elsewhere: here mypy would take the source folder for the installed package.
    session.chdir(session.create_tmp())
    session.run("stubtest", "ipv4", f"--mypy-config-file={config}", f"--allowlist={allowed}")
    session.run("mypy", f"--config-file={config}", "--strict", str(TYPING))


@nox.session
def docs(session: nox.Session) -> None:
    """Make the manual, in docs/_build; a warning is an error."""
    session.install(".[docs]")
    session.chdir(session.create_tmp())
    session.run("sphinx-build", "-q", "-W", "-b", "html", str(ROOT / "docs"),
                str(ROOT / "docs" / "_build"), *session.posargs)  # fmt: skip


@nox.session
def tests(session: nox.Session) -> None:
    """Run the suite, or what is named: ``nox -s tests -- tests/wire``."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def portable(session: nox.Session) -> None:
    """Run the suite on a build without what only Linux has."""
    session.install(".[test]", "--config-settings=setup-args=-Dportable=true")
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="none")
def sanitizers(session: nox.Session) -> None:
    """Run the suite under ASAN and UBSAN."""
    session.run(".ci/sanitize", *session.posargs, external=True)


@nox.session(venv_backend="none")
def wheel(session: nox.Session) -> None:
    """Build the sdist and a wheel for each CPython of this machine; audit and try each."""
    session.run("python3", "tools/wheels", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run each case of the comparison once; bench/README.md says how to measure."""
    session.install(".", "pytest", "pytest-benchmark")
    session.run("pytest", "bench", "--benchmark-disable", *session.posargs)
