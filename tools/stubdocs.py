"""Write a compiled module's docstrings into its stub, for editors show what stands there.

    python tools/stubdocs.py ipv4/engine/packet.pyx ipv4/engine/packet.pyi OUTPUT

A docstring stands once, in the source; the build runs this for every stub that it installs. What
has none of its own takes that of its row among the class's attributes.
Nothing is imported: compiled modules are read line by line, the others by `ast`.
"""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"(?P<indent> *)(?:(?P<kind>(?:cdef |cpdef )?class|(?:async )?def) (?P<name>\w+)"
    r"|cpdef [^=]*?(?P<cpdef>\w+)\()"
)
LITERAL = re.compile(r'\s*(?P<literal>r?"""(?:[^"\\]|\\.|"(?!""))*""")', re.DOTALL)
SETTER = re.compile(r" *@\w+\.(setter|deleter)")


class Place(NamedTuple):
    """Where a class or function stands, and what its docstring says."""

    kind: str  # "class" or "def"
    first: int  # lines, from 1
    last: int
    doc: str


def scan(path):
    """Every class, function and option of a source file, by its qualified name."""
    text = Path(path).read_text()
    return scan_python(text) if Path(path).suffix == ".py" else scan_cython(text)


def scan_python(text):
    places = {}

    def visit(body, prefix):
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                is_setter = any(isinstance(each, ast.Attribute) for each in node.decorator_list)
                name = prefix + node.name
                if not (is_setter and name in places):
                    kind = "class" if isinstance(node, ast.ClassDef) else "def"
                    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                    doc = ast.get_docstring(node) or ""
                    places[name] = Place(kind, first, node.end_lineno, doc)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                # A row of a table of options: its longest text is its docstring.
                said = [
                    each.value
                    for each in node.value.args
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                doc = max(said, key=len, default="")
                if prefix and "\n" in doc:
                    place = Place("def", node.lineno, node.end_lineno, inspect.cleandoc(doc))
                    places[prefix + node.target.id] = place

    visit(ast.parse(text).body, "")
    return places


def scan_cython(text):
    lines = text.splitlines(keepends=True)
    places = {}
    outer = []  # (indent, name) of the classes around the line
    for at, line in enumerate(lines):
        found = BLOCK.match(line)
        if not found:
            continue
        indent = len(found["indent"])
        while outer and outer[-1][0] >= indent:
            outer.pop()
        name = found["name"] or found["cpdef"]
        qualified = ".".join([each for _, each in outer] + [name])
        is_class = "class" in (found["kind"] or "")
        if is_class:
            outer.append((indent, name))
        if at and SETTER.match(lines[at - 1]):
            continue
        head = at
        while not re.search(r":\s*(#.*)?$", lines[head]):
            head += 1
        literal = LITERAL.match("".join(lines[head + 1 :]))
        doc = ast.literal_eval(literal["literal"]) if literal else ""
        doc = doc.partition("\n--\n")[2] or doc  # a signature for inspect stands before
        last = head + 1
        while last < len(lines) and (
            not lines[last].strip() or len(lines[last]) - len(lines[last].lstrip()) > indent
        ):
            last += 1
        first = at
        while first and lines[first - 1].lstrip().startswith("@"):
            first -= 1
        kind = "class" if is_class else "def"
        places[qualified] = Place(kind, first + 1, last, inspect.cleandoc(doc))
    return places


def quoted(doc, indent):
    """A docstring as source, at an indent."""
    text = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text = text[:-1] + '\\"'
    pad = " " * indent
    lines = f'"""{text}'.splitlines()
    end = f'\n{pad}"""\n' if len(lines) > 1 else '"""\n'
    return "\n".join(f"{pad}{line}".rstrip() for line in lines) + end


def attribute_docs(doc):
    """What a class's docstring says of its attributes, by their names."""
    said = {}
    names = ()
    for line in doc.partition("\nAttributes\n----------\n")[2].splitlines():
        if line[:1].strip():
            head, colon, _ = line.partition(" : ")
            if not colon:
                break
            names = head.split(", ")
        for name in names:
            said.setdefault(name, []).append(line)
    return {name: inspect.cleandoc("\n".join(lines[1:])) for name, lines in said.items()}


def doc_of(name, places):
    """The docstring of a qualified name."""
    place = places.get(name)
    if place and place.doc:
        return place.doc
    owner, _, member = name.rpartition(".")
    if not owner or member.startswith("_"):
        return ""
    around = places.get(owner)
    return attribute_docs(around.doc).get(member, "") if around else ""


def documented(stub, places, module_doc=""):
    """The stub's text with the docstrings that the source has."""
    lines = stub.splitlines(keepends=True)
    edits = []  # (line from 0, column or None for before the line, text)

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                doc = doc_of(prefix + node.target.id, places)
                if doc:
                    edits.append((node.end_lineno, None, quoted(doc, node.col_offset)))
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            doc = doc_of(prefix + node.name, places)
            is_setter = any(
                isinstance(each, ast.Attribute) and each.attr in ("setter", "deleter")
                for each in getattr(node, "decorator_list", ())
            )
            if doc and not is_setter and ast.get_docstring(node) is None:
                text = quoted(doc, node.col_offset + 4)
                first = node.body[0]
                starts = [first.lineno, *(e.lineno for e in getattr(first, "decorator_list", ()))]
                if isinstance(first, ast.Expr) and first.value.value is ...:
                    edits.append((first.lineno - 1, first.col_offset, text))
                else:
                    edits.append((min(starts) - 1, None, text))
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(stub).body, "")
    # From the end, and on one line what stands on it before what goes above it.
    for line, column, text in sorted(edits, key=lambda e: (e[0], e[1] is not None), reverse=True):
        if column is None:
            lines.insert(line, text)
        elif lines[line][:column].strip():  # "def f() -> None: ..."
            lines[line] = f"{lines[line][:column].rstrip()}\n{text}"
        else:
            lines[line] = text
    if module_doc and ast.get_docstring(ast.parse(stub)) is None:
        lines.insert(0, quoted(module_doc, 0))
    return "".join(lines)


def module_doc(path):
    """The docstring at a file's head."""
    found = LITERAL.match(re.sub(r"\A(\s*#.*\n)+", "", Path(path).read_text()))
    return inspect.cleandoc(ast.literal_eval(found["literal"])) if found else ""


def main(source, stub, output):
    text = documented(Path(stub).read_text(), scan(source), module_doc(source))
    ast.parse(text)
    Path(output).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
