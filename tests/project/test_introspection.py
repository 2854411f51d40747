"""What an editor shows: signature and docstring of all that is public; typed programs use it."""

import ast
import inspect
import itertools
import re
from pathlib import Path

import pytest

import ipv4
from ipv4 import aio

HERE = Path(__file__).resolve().parents[1]
STUBS = HERE.parent / "ipv4"
CLASSES = [
    *(found for name in ipv4.__all__ if inspect.isclass(found := getattr(ipv4, name))),
    *(found for name in aio.__all__ if inspect.isclass(found := getattr(aio, name))),
]
# What the standard library defines for every enumeration, tuple or integer is not ours to document.
BUILTIN = {name for kind in (int, tuple) for name in dir(kind)} | {"name", "value"}


def members(cls):
    """Public attributes of a class, its bases' included."""
    for name in dir(cls):
        if not name.startswith("_") and name not in BUILTIN:
            yield name, inspect.getattr_static(cls, name)


def public():
    for cls in CLASSES:
        for name, found in members(cls):
            if isinstance(found, cls):
                continue  # a member of an enumeration
            yield pytest.param(cls, name, found, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_a_signature_and_a_docstring(cls):
    assert inspect.getdoc(cls)
    signature = inspect.signature(cls)
    assert "args" not in signature.parameters or issubclass(cls, int)
    assert "(" not in inspect.getdoc(cls).partition("\n")[0].partition(" ")[0]


@pytest.mark.parametrize(("cls", "name", "found"), list(public()))
def test_every_member_has_a_docstring_and_every_method_a_signature(cls, name, found):
    if isinstance(getattr(cls, name), (int, str)) or issubclass(cls, tuple):
        assert re.search(rf"\b{name}\b", inspect.getdoc(cls)), "documented by its class"
        return
    doc = inspect.getdoc(found)
    if cls not in vars(aio).values() or name not in ("conn", "kind"):
        assert doc, "no docstring"
        assert not doc.startswith(f"{name}("), "the signature is text of the docstring"
    if inspect.isroutine(getattr(cls, name)):
        assert inspect.signature(getattr(cls, name)).parameters is not None


SECTIONS = (
    "Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "References", "Examples",
    "See Also", "Warnings",
)  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
def test_sections_of_docstrings_are_those_of_numpydoc(cls):
    for found in [cls, *(found for _, found in members(cls))]:
        lines = (inspect.getdoc(found) or "").splitlines()
        for title, rule in itertools.pairwise(lines):
            if re.fullmatch("-{3,}", rule):
                assert title in SECTIONS
                assert len(rule) == len(title)


def test_typed_programs_use_every_public_name():
    words = set(re.findall(r"\w+", "".join(p.read_text() for p in (HERE / "typing").glob("*.py"))))
    assert set(ipv4.__all__) - words == set()
    unused = {
        f"{cls.__name__}.{name}"
        for cls in CLASSES
        for name, found in members(cls)
        if name not in words and name != "kind" and not isinstance(found, cls)
    }
    assert unused == set()


def stubbed_classes():
    """Of each class that type checkers know: what it names itself, and its bases."""
    found = {}
    for path in [*STUBS.rglob("*.pyi"), *STUBS.glob("*.py")]:
        for cls in ast.walk(ast.parse(path.read_text())):
            if isinstance(cls, ast.ClassDef):
                names = set()
                for each in ast.walk(cls):
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        names.add(each.target.id)
                    elif isinstance(each, ast.Assign):
                        names.update(to.id for to in each.targets if isinstance(to, ast.Name))
                    elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        names.add(each.name)
                bases = [base.id for base in cls.bases if isinstance(base, ast.Name)]
                found[cls.name] = names, bases
    return found


def stubbed(name, classes):
    names, bases = classes.get(name, (set(), []))
    return names.union(*(stubbed(base, classes) for base in bases))


@pytest.mark.parametrize("cls", [aio.AsyncPacketConn, aio.AsyncRawConn])
def test_stub_of_an_awaited_conn_has_every_member_of_the_conn(cls):
    """They are handed on at run time, so that no tool that compares stub and class sees a gap."""
    known = stubbed(cls.__name__, stubbed_classes())
    public = {name for kind in (cls, cls.kind) for name in dir(kind) if name[0] != "_"}
    assert public - known == set()
