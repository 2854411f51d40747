"""What the manual makes of the package itself: links, groups of members, tables, the command.

Nothing here is written twice: names, docstrings and options come from the package that is
installed, source lines from the repository.
"""

import argparse
import ast
import enum
import functools
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import zlib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx import addnodes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import figures  # noqa: E402
import stubdocs  # noqa: E402

import ipv4  # noqa: E402
import ipv4.aio  # noqa: E402
import ipv4.bpf  # noqa: E402
from ipv4.engine import kernel  # noqa: E402

CONNS = (ipv4.PacketConn, ipv4.RawConn, ipv4.Conn)

# --- links: `name` in single backticks leads to it, where there is such a name --------------------

# Whose attribute a bare name may be, and what the pages call an object of a class.
OWNERS = ("ipv4.PacketConn", "ipv4.RawConn", "ipv4.Conn")
SAMPLES = {
    "conn": "ipv4.PacketConn",
    "aconn": "ipv4.aio.AsyncPacketConn",
    "cm": "ipv4.ControlMessage",
    "batch": "ipv4.MessageBatch",
    "message": "ipv4.Message",
    "header": "ipv4.Header",
    "report": "ipv4.ErrorReport",
}
# Bare, these are arguments of calls far more often than the attributes of that name.
ARGUMENTS = {"interface", "socket", "timeout", "flags"}


def name_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """The default role: code, and a link where the name is known."""
    env = inliner.document.settings.env
    titled = re.fullmatch(r"(?s)(.+?)\s+<([\w.]+)>", text)  # `shown <name>`
    text, target = titled.groups() if titled else (text, text.partition("(")[0].lstrip("~"))
    node = addnodes.pending_xref(
        rawtext,
        nodes.literal(rawtext, text, classes=["xref"]),
        refdomain="",
        reftype="name",
        reftarget=target,
        refexplicit=False,
        refwarn=False,
        refdoc=env.docname,
        owner=env.ref_context.get("py:class") or "",
    )
    return [node], []


def candidates(target, owner):
    if not re.fullmatch(r"[A-Za-z_][\w.]*", target):
        return
    head, dot, rest = target.partition(".")
    if dot and head in SAMPLES:
        yield f"{SAMPLES[head]}.{rest}"
    if not dot:
        if owner:
            yield f"ipv4.{owner}.{target}"
            yield f"{owner}.{target}"
        if target in ARGUMENTS:
            return
        for each in OWNERS:
            yield f"{each}.{target}"
    for prefix in ("", "ipv4.", "ipv4.aio.", "ipv4.bpf."):
        yield prefix + target
    if head in ("RawConn", "Conn"):
        yield f"ipv4.PacketConn.{rest}"
    if head in ("AsyncPacketConn", "AsyncRawConn"):
        yield f"ipv4.aio.AsyncPacketConn.{rest}"


def resolve_name(app, env, node, contnode):
    """`missing-reference`: the target of a name, here or in Python's own manual."""
    if node["reftype"] != "name":
        return None
    known = env.domains.python_domain.objects
    for name in candidates(node["reftarget"], node["owner"]):
        if name in known:
            entry = known[name]
            here = node["refdoc"]
            uri = app.builder.get_relative_uri(here, entry.docname) + f"#{entry.node_id}"
            return nodes.reference("", "", contnode, internal=True, refuri=uri, reftitle=name)
    if node["reftarget"] in PYTHON:
        uri = f"https://docs.python.org/3/{PYTHON[node['reftarget']]}#{node['reftarget']}"
        return nodes.reference("", "", contnode, internal=False, refuri=uri)
    return None


# The names of Python's manual that pages and docstrings speak of: an inventory that needs no
# network.
PYTHON = {
    name: f"library/{page}.html"
    for page, names in {
        "constants": "None True False",
        "exceptions": "OSError TimeoutError BlockingIOError PermissionError ValueError TypeError"
        " BufferError NotImplementedError ConnectionRefusedError AttributeError MemoryError"
        " ResourceWarning InterruptedError",
        "stdtypes": "int str bytes bytearray memoryview dict tuple list",
        "functions": "bool float object",
        "socket": "socket.socket socket.if_nameindex socket.getaddrinfo socket.if_nametoindex",
        "ipaddress": "ipaddress.IPv4Address",
        "time": "time.monotonic time.time",
        "selectors": "selectors.DefaultSelector",
        "select": "select.poll",
        "asyncio-protocol": "asyncio.DatagramProtocol asyncio.DatagramTransport",
        "asyncio-task": "asyncio.timeout asyncio.wait_for",
    }.items()
    for name in names.split()
}
ROLES = {
    "constants": "py:data",
    "exceptions": "py:exception",
    "functions": "py:class",
    "stdtypes": "py:class",
}


def write_inventory(path):
    """PYTHON as an intersphinx inventory (version 2)."""
    lines = []
    for name, page in PYTHON.items():
        module = page.partition("/")[2].removesuffix(".html")
        is_class = name.rpartition(".")[2][0].isupper() or name in ("socket.socket",)
        role = ROLES.get(module, "py:class" if is_class else "py:function")
        lines.append(f"{name} {role} 1 {page}#$ -\n")
    for term in ("sequence", "iterable", "mapping"):
        lines.append(f"{term} std:term -1 glossary.html#term-{term} -\n")
    lines.append("bltin-boolean-values std:label -1 library/stdtypes.html#$ bool\n")
    head = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    path.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))


# --- members, grouped by subject ------------------------------------------------------------------

# Where a conn's member is told of: the first pattern that fits its name, else where its class
# stands. A new name has its place without being listed.
SUBJECTS = [
    ("openers", r"udp|ip|ping"),
    ("errors", r"read_error|receive_error\w*"),
    ("batches", r"(read|write)_batch|write_all|segmentation|coalesc\w+"),
    ("datagrams", r"read_from|write_to|receive|set_control_message|control_flags|set_time\w+|"
                  r"set_txtime"),
    ("groups", r"multicast_\w+|\w*group|join_all|(set_)?source_filter"),
    ("filters", r"\w*bpf|icmp_filter|min_ttl|router_alert"),
    ("queues", r"(receive|send)_buffer|pending|unsent|memory_info"),
]  # fmt: skip
BY_MODULE = {
    "ipv4.engine.endpoint": "life",
    "ipv4.engine.interfaces": "life",
    "ipv4.engine.connection": "life",
    "ipv4.conn": "life",
    "ipv4.engine.multicast": "groups",
    "ipv4.filtering": "filters",
    "ipv4.options": "options",
}


def defining_class(cls, name):
    return next(each for each in cls.__mro__ if name in vars(each))


def subject_of(cls, name):
    for subject, pattern in SUBJECTS:
        if re.fullmatch(pattern, name):
            return subject
    module = defining_class(cls, name).__module__
    is_property = hasattr(type(inspect.getattr_static(cls, name)), "__set__")
    return BY_MODULE.get(module, "options" if is_property else "life")


def public(cls):
    return [name for name in dir(cls) if not name.startswith("_")]


def shared_members(subject):
    """Each class and name to be told of, a member that several classes share once."""
    told = {}
    for cls in CONNS:
        for name in public(cls):
            if subject_of(cls, name) != subject:
                continue
            doc = inspect.getattr_static(cls, name).__doc__
            if doc not in told.setdefault(name, []):
                told[name].append(doc)
                yield cls, name


def auto(cls, name, module="ipv4"):
    """Lines of the autodoc directive for a member."""
    found = inspect.getattr_static(cls, name)
    path = f"{module}.{cls.__name__}.{name}"
    if callable(getattr(cls, name)) and not hasattr(type(found), "__set__"):
        return [f".. automethod:: {path}", ""]
    return [f".. autoattribute:: {path}", "   :no-value:", ""]


class Generated(Directive):
    """A directive whose content is written by `lines`."""

    has_content = False
    required_arguments = 0
    optional_arguments = 9

    def lines(self):
        raise NotImplementedError

    def run(self):
        block = StringList(self.lines(), source=self.__class__.__name__)
        holder = nodes.section()
        holder.document = self.state.document
        self.state.nested_parse(block, self.content_offset, holder, match_titles=1)
        return holder.children


class Members(Generated):
    """``.. conn-members:: groups``"""

    def lines(self):
        found = sorted(shared_members(self.arguments[0]), key=lambda each: each[1])
        return [line for cls, name in found for line in auto(cls, name)]


class DataType(Generated):
    """``.. data-type:: ipv4.ControlMessage``: the class, its attributes, its methods."""

    def lines(self):
        path = self.arguments[0]
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        lines = [f".. autoclass:: {path}", ""]
        doc = inspect.getdoc(cls) or ""
        rows = stubdocs.attribute_docs(doc.partition("\n--\n")[2] or doc)
        for attribute, text in rows.items():
            lines += [f"   .. py:attribute:: {attribute}", ""]
            lines += [f"      {line}" for line in text.splitlines()] + [""]
        inherited = set(dir(object)) | set(dir(tuple)) | set(dir(int))
        for member in public(cls):
            if member in rows or member in inherited:
                continue
            if not (getattr(cls, member).__doc__ or "").strip():
                continue
            lines += [f"   {line}" for line in auto(cls, member, module)]
        return lines


class Enumeration(Generated):
    """``.. enumeration:: ipv4.ControlFlags``: each member with its value and meaning."""

    def lines(self):
        path = self.arguments[0]
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        lines = [f".. autoclass:: {path}", "   :no-members:", ""]
        said = member_docs(cls)
        flags = issubclass(cls, enum.Flag)
        for member in cls.__members__.values():
            value = f"0x{member.value:x}" if flags and member.value > 9 else member.value
            lines += [f"   .. py:attribute:: {member.name}", f"      :value: {value}", ""]
            lines += [f"      {line}" for line in said.get(member.name, "").splitlines()] + [""]
        for name, each in vars(cls).items():
            if isinstance(each, property):
                lines += [f"   .. autoattribute:: {path}.{name}", "      :no-value:", ""]
        return lines


def member_docs(cls):
    """The string that stands under each member in the source of an enumeration."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    said = {}
    for first, second in itertools.pairwise(body):
        if isinstance(first, ast.Assign) and isinstance(second, ast.Expr):
            text = getattr(second.value, "value", None)
            if isinstance(text, str):
                said[first.targets[0].id] = inspect.cleandoc(text)
    return said


# --- tables --------------------------------------------------------------------------------------

KERNEL_NAME = re.compile(r"\b(?:IP|SO|UDP|MCAST|ICMP|TCP|SIOC)_?[A-Z0-9]+(?:_[A-Z0-9]+)*\b")
AFTER_PAGE = re.compile(r"\b\w+\(7\), (?P<name>[A-Z]\w+)|(?P<call>\bget(?:peer|sock)name\(2\))")
SINCE = re.compile(r"Linux\s+(\d+\.\d+(?:\.\d+)?)")
CAPABILITY = re.compile(r"CAP_[A-Z]+(?:_[A-Z]+)*")


def table(heads, rows, widths=""):
    lines = [".. list-table::", "   :header-rows: 1", "   :class: facts"]
    lines += [f"   :widths: {widths}"] if widths else []
    lines.append("")
    for row in [heads, *rows]:
        for at, cell in enumerate(row):
            lines.append(f"   {'*' if at == 0 else ' '} - {cell}")
    return [*lines, ""]


def facts(doc):
    """Kernel option, first version and capabilities that a docstring names."""
    named = AFTER_PAGE.search(doc)
    option = (named["name"] or named["call"]) if named else KERNEL_NAME.search(doc)
    option = option if isinstance(option, str) else option and option[0]
    since = SINCE.search(doc)
    doc = re.sub(r"Old kernels[^.]*\.", "", doc)
    needed = [] if re.search(r"takes? no privilege", doc) else CAPABILITY.findall(doc)
    return (
        option or "",
        since[1] if since else "",
        " or ".join(dict.fromkeys(needed)) or "none",
    )


def short(name):
    """``ControlMessage.ttl`` as programs write it: ``cm.ttl``."""
    owner, _, attribute = name.partition(".")
    samples = {path.removeprefix("ipv4."): sample for sample, path in SAMPLES.items()}
    return f"{samples[owner]}.{attribute}"


class FlagTable(Generated):
    """Flag, kernel option, attributes, privilege, first kernel."""

    def lines(self):
        rows = []
        for name, doc in member_docs(ipv4.ControlFlags).items():
            option, since, needed = facts(doc)
            attributes = re.findall(r"`((?:ControlMessage|MessageBatch)\.\w+)`", doc)
            meaning = doc.partition(":")[0]
            rows.append(
                (
                    f":name:`{name} <ControlFlags.{name}>`",
                    meaning,
                    f"``{option}``",
                    ", ".join(f"`{short(each)}`" for each in attributes),
                    needed,
                    since,
                )
            )
        heads = ("flag", "tells", "kernel option", "read as", "privilege", "since Linux")
        return table(heads, rows, "14 24 20 20 11 11")


class OptionTable(Generated):
    """Each option property: kernel option, privilege, first kernel, which conns have it."""

    def lines(self):
        found = {}
        for cls in CONNS:
            for name in public(cls):
                static = inspect.getattr_static(cls, name)
                doc = static.__doc__ or ""
                if hasattr(type(static), "__set__") and SINCE.search(doc):
                    kernel_name = getattr(static, "kernel_name", "")
                    takes = getattr(static, "takes", None)
                    row = found.setdefault((name, doc), (kernel_name, takes, []))
                    row[2].append(cls.__name__)
        rows = []
        for (name, doc), (kernel_name, takes, classes) in sorted(found.items()):
            option, since, needed = facts(" ".join(doc.split()))
            if kernel_name:  # a row of options.py says it itself
                since = kernel.SINCE[kernel_name]
                needed = " or ".join(dict.fromkeys(CAPABILITY.findall(takes))) or "none"
            option = f"``{kernel_name or option}``" if kernel_name or option else ""
            shown = name if "PacketConn" in classes else f"{classes[0]}.{name}"
            of = "all" if len(classes) == 3 else ", ".join(classes)
            rows.append((f"`{shown}`", option, needed, since, of))
        return table(("option", "kernel option", "privilege", "since Linux", "of"), rows)


class FeatureTable(Generated):
    """The keys of `ipv4.features()`, and what each is for."""

    def lines(self):
        from ipv4.cli import doctor
        from ipv4.trials import FEATURES

        rows = []
        for name in FEATURES:
            row = doctor.FEATURES.get(name, ("", ""))
            rows.append((f'``"{name}"``', str(row[0]).replace("_ ", "\\_ "), str(row[1])))
        return table(("key", "for", "takes"), rows)


class Functions(Generated):
    """Every function of the package that has no page of its own."""

    def lines(self):
        lines = []
        for name in ipv4.__all__:
            if inspect.isroutine(getattr(ipv4, name)) and name not in ELSEWHERE:
                lines += [f".. autofunction:: ipv4.{name}", ""]
        return lines


ELSEWHERE = {"features", "new_control_message"}


class TypeAliases(Generated):
    """The names of `ipv4.types`, each with what it stands for and the text below it."""

    def lines(self):
        import ipv4.types

        body = ast.parse(inspect.getsource(ipv4.types)).body
        lines = [".. py:module:: ipv4.types", ""]
        for first, second in itertools.pairwise(body):
            if isinstance(first, ast.AnnAssign) and first.target.id in ipv4.types.__all__:
                lines += [f".. py:data:: {first.target.id}"]
                lines += [f"   :value: {ast.unparse(first.value)}", ""]
                said = inspect.cleandoc(second.value.value)
                lines += [f"   {line}" for line in said.splitlines()] + [""]
        return lines


class Instructions(Generated):
    """Every instruction class of `ipv4.bpf`."""

    def lines(self):
        base = ipv4.bpf.Instruction
        names = [
            name
            for name in ipv4.bpf.__all__
            if inspect.isclass(getattr(ipv4.bpf, name))
            and issubclass(getattr(ipv4.bpf, name), base)
        ]
        lines = []
        for name in sorted(names, key=lambda each: (each not in ("Instruction",), each)):
            lines += [f".. autoclass:: ipv4.bpf.{name}", ""]
        return lines


class Command(Generated):
    """The command's options, from its own parser."""

    def lines(self):
        from ipv4.cli import build_parser

        parser = build_parser()
        lines = []
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for name, each in commands.choices.items():
            lines += [f"ipv4 {name}", "-" * (len(name) + 5), ""]
            each.prog = f"ipv4 {name}"
            lines += [f"| {line}" if line.strip() else "" for line in []]
            lines += [*(each.description or "").strip().splitlines(), ""]
            usage = each.format_usage().removeprefix("usage: ").splitlines()
            lines += [".. code-block:: text", "", *(f"   {line}" for line in usage), ""]
            for action in each._actions:
                if action.help is argparse.SUPPRESS:
                    continue
                value = each._get_formatter()._format_args(action, (action.dest or "").upper())
                heads = [f"{o} {value}".strip() for o in action.option_strings] or [
                    action.metavar if isinstance(action.metavar, str) else action.dest
                ]
                text = each._get_formatter()._expand_help(action) if action.help else ""
                lines += ["``" + "``, ``".join(heads) + "``", f"   {text or '.'}", ""]
            if each.epilog:
                title, _, rest = each.epilog.strip().partition("\n")
                lines += [f"{title.strip(':').capitalize()}:", ""]
                lines += [".. code-block:: text", ""]
                lines += [f"   {line}" for line in inspect.cleandoc(rest).splitlines()]
                lines += [""]
        return lines


def drawing(lines):
    """Inline, so that it takes the page's colours; in a box, which scrolls on a phone."""
    box = ['<div class="drawing-box">', *lines, "</div>"]
    return [".. raw:: html", "", *(f"   {line}" for line in box), ""]


def figure_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """:figure:`pair, cm | socket, struct`: a figure of the last benchmark that is kept."""
    case, _, against = (part.strip() for part in text.partition("|"))
    return [nodes.Text(figures.Figures().shown(case, against))], []


class BenchDrawing(Generated):
    """The ratios to C as bars, each below its name, so that a phone shows them whole."""

    def lines(self):
        kept = figures.Figures()
        rows = [
            (name.replace("`", ""), kept.rows[case, "C"])
            for name, case in figures.TABLE
            if (case, "C") in kept.rows
        ]
        height = 24 + 38 * len(rows)
        scale = 320 / max(1.4, *(value for _, value in rows))
        out = [f'<svg class="drawing" viewBox="0 0 380 {height}" role="img">']
        out.append("<title>Time per packet as a ratio to C</title>")
        for at, (name, value) in enumerate(rows):
            y, end = 20 + 38 * at, round(value * scale)
            name = name.replace("batches of 64 both ways, with control messages: ", "batches: ")
            out.append(f'<text x="0" y="{y + 12}">{name}</text>')
            out.append(f'<rect class="accent" x="0" y="{y + 17}" width="{end}" height="12"/>')
            out.append(f'<text class="small" x="{end + 6}" y="{y + 27}">{value:.2f}</text>')
        c = round(scale)
        out.append(f'<path class="line" d="M{c} 16V{height}" stroke-dasharray="3 3"/>')
        out.append(f'<text class="small" x="{c}" y="12" text-anchor="middle">C = 1</text></svg>')
        return drawing(out)


class BatchDrawing(Generated):
    """bench/batch.svg within the page, whose colours it takes."""

    def lines(self):
        svg = (ROOT / "bench" / "batch.svg").read_text()
        svg = re.sub(r'<rect [^>]*fill="white"/>', "", svg)
        svg = svg.replace("<svg ", '<svg class="drawing chart" role="img" ', 1)
        return drawing(svg.splitlines())


def cells(x, y, count, width=14, gap=4, height=12):
    return "".join(
        f'<rect class="accent" x="{x + (width + gap) * i}" y="{y}" width="{width}"'
        f' height="{height}"/>'
        for i in range(count)
    )


def arrow(x, y, to, down=0):
    """From x to `to`, and so far down."""
    tip = -6 if to > x else 6
    return (
        f'<path class="line" d="M{x} {y}L{to} {y + down}"/><path class="ink" d="M{to} {y + down}'
        f'l{tip} -4v8z"/>'
    )


def place(x, y, width, height, name=""):
    said = f'<text x="{x + width / 2}" y="{y + 17}" text-anchor="middle">{name}</text>'
    box = f'<rect class="soft" x="{x}" y="{y}" width="{width}" height="{height}" rx="4"/>'
    return box + (said if name else "")


def note(x, y, text, anchor="middle"):
    return f'<text class="small" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def between(left, *inside, right="the kernel"):
    """Two places, the program left and the kernel right, and what happens between them."""
    return [place(0, 4, 112, 92, left), place(268, 4, 112, 92, right), *inside]


def columns(x):
    heights = (46, 46, 46, 46)
    return "".join(
        f'<rect class="accent" x="{x + 18 * i}" y="34" width="12" height="{tall}"/>'
        for i, tall in enumerate(heights)
    )


# What each path is, drawn: 380 wide, which a phone shows whole.
PATHS = {
    "single": (
        "One datagram a system call",
        between(
            "program",
            *(cells(182, y - 6, 1) + arrow(264, y, 202) + arrow(178, y, 116) for y in (30, 55, 80)),
            cells(42, 50, 1, 28),
            note(190, 14, "a call each"),
        ),
    ),
    "list": (
        "A batch as a list of messages: an object each",
        between(
            "program",
            arrow(264, 56, 252), cells(138, 50, 6), arrow(134, 56, 116),
            note(190, 38, "one call"),
            *(place(14 + 30 * i, 32 + 28 * j, 26, 20) + cells(20 + 30 * i, 36 + 28 * j, 1)
              for i in range(3) for j in range(2)),
        ),
    ),
    "ring": (
        "A MessageBatch: one piece of memory, a row each",
        between(
            "program",
            arrow(264, 56, 252), cells(138, 50, 6), arrow(134, 56, 116),
            note(190, 38, "one call"),
            place(24, 28, 64, 60), *(cells(30, 33 + 13 * i, 1, 52, height=9) for i in range(4)),
        ),
    ),
    "columns": (
        "A MessageBatch as columns",
        between(
            "program",
            arrow(264, 56, 252), cells(138, 50, 6), arrow(134, 56, 116),
            note(190, 38, "one call"),
            columns(22), note(56, 91, "lengths, ttls …"),
        ),
    ),
    "coalesce": (
        "Messages of one size that leave joined",
        between(
            "program",
            cells(6, 50, 6, 12), arrow(116, 56, 134),
            '<rect class="accent" x="138" y="50" width="102" height="12"/>',
            arrow(244, 56, 264), cells(274, 50, 6, 12),
            note(190, 38, "one call, one piece"),
        ),
    ),
    "aio": (
        "An event loop that drains batch by batch",
        between(
            "event loop",
            arrow(264, 40, 116), note(190, 32, "readable"),
            arrow(264, 70, 252), cells(138, 64, 6), arrow(134, 70, 116), note(190, 92, "one call"),
            '<circle class="line" cx="56" cy="58" r="20"/><path class="ink" d="M76 58l-5 -6h10z"/>',
        ),
    ),
    "threads": (
        "Two threads with a conn each, and the lock that Python code takes",
        [
            note(0, 26, "thread 1", "start"), note(0, 66, "thread 2", "start"),
            *(f'<rect class="accent" x="{60 + 80 * i}" y="16" width="22" height="14"/>'
              f'<rect class="soft" x="{82 + 80 * i}" y="16" width="56" height="14"/>'
              f'<rect class="accent" x="{84 + 80 * i}" y="56" width="22" height="14"/>'
              f'<rect class="soft" x="{106 + 80 * i}" y="56" width="56" height="14"/>'
              for i in range(3)),
            '<rect class="accent" x="60" y="84" width="14" height="10"/>',
            note(80, 93, "Python, with the lock", "start"),
            '<rect class="soft" x="230" y="84" width="14" height="10"/>',
            note(250, 93, "a batch, without", "start"),
        ],
    ),
    "gil": (
        "A call tries with the lock held, and gives it up only to wait",
        [
            '<rect class="accent" x="0" y="30" width="70" height="26"/>',
            note(35, 22, "tries"), arrow(72, 43, 108),
            '<rect class="soft" x="110" y="30" width="150" height="26"/>',
            note(185, 47, "waits, lock given up"), arrow(262, 43, 298),
            '<rect class="accent" x="300" y="30" width="70" height="26"/>', note(335, 22, "tries"),
            note(35, 74, "lock held"), note(335, 74, "lock held"),
            note(185, 92, "release_gil = True: given up to try as well"),
        ],
    ),
    "queue": (
        "A queue that is full loses what comes",
        [
            place(0, 20, 92, 60, "program"), arrow(132, 50, 96),
            place(136, 36, 150, 28), cells(142, 44, 8), arrow(330, 50, 290), cells(334, 44, 1),
            note(211, 82, "receive_buffer"), note(211, 28, "the queue"),
            cells(352, 70, 1), arrow(320, 92, 345), note(268, 96, "DROPS counts"),
        ],
    ),
    "processes": (
        "One port, a program in the kernel, a process each",
        [
            place(286, 30, 94, 40, "one port"), arrow(282, 50, 250),
            place(160, 30, 88, 40, "BPF"), note(204, 62, "which one?"),
            *(place(0, y, 98, 28, f"process {n}") for n, y in enumerate((0, 36, 72))),
            arrow(158, 44, 102, -28), arrow(158, 50, 102), arrow(158, 56, 102, 28),
        ],
    ),
    "busy": (
        "Looking at the device's queue instead of sleeping until it interrupts",
        [
            place(0, 20, 92, 60, "program"), place(280, 20, 100, 60, "device"),
            arrow(276, 34, 96), note(188, 28, "interrupt, then wakes"),
            arrow(96, 56, 276), arrow(96, 66, 276), arrow(96, 76, 276),
            note(188, 92, "busy_poll: asks meanwhile"),
        ],
    ),
}  # fmt: skip


class PathDrawing(Generated):
    """``.. path-drawing:: ring``"""

    required_arguments = 1

    def lines(self):
        title, parts = PATHS[self.arguments[0]]
        out = ['<svg class="drawing path" viewBox="0 0 380 100" role="img">']
        return drawing([*out, f"<title>{title}</title>", *parts, "</svg>"])


class FloorsDrawing(Generated):
    """The floors of CONTRIBUTING.md, the highest above."""

    def lines(self):
        text = (ROOT / "CONTRIBUTING.md").read_text()
        rooms = {}
        for floor, names in re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE):
            found = [re.sub(r"\w+/(?=\w)|\.\w+$|/$", "", each) for each in names.split("`")[1::2]]
            rooms.setdefault(int(floor), []).extend(found)
        out, y = [], 4
        for floor, names in sorted(rooms.items(), reverse=True):
            rows = textwrap.wrap(" ".join(names), 44)
            height = 16 + 16 * len(rows)
            if out:
                out.append(f'<path class="line" d="M205 {y - 12}v12m-4-5 4 5 4-5"/>')
            out.append(f'<text class="small" x="2" y="{y + 20}">{floor}</text>')
            out.append(f'<rect class="soft" x="30" y="{y}" width="350" height="{height}" rx="4"/>')
            for at, row in enumerate(rows):
                shown = row.replace(" ", " · ")
                out.append(
                    f'<text x="205" y="{y + 20 + 16 * at}" text-anchor="middle">{shown}</text>'
                )
            y += height + 12
        title = "<title>The floors of the library: imports go down only</title>"
        out[:0] = [f'<svg class="drawing" viewBox="0 0 380 {y}" role="img">', title]
        out.append("</svg>")
        return drawing(out)


# --- links to the source, of compiled modules too -------------------------------------------------

SUFFIXES = (".pyx", ".py", "/__init__.py")


def source_of(module):
    for suffix in SUFFIXES:
        path = ROOT / (module.replace(".", "/") + suffix)
        if path.exists():
            return path
    return None


@functools.cache
def places_of(module):
    """Where the classes and functions of a module of ours stand in its source."""
    path = source_of(module) if (module or "").startswith("ipv4") else None
    return stubdocs.scan(path) if path else {}


def home_of(cls, name):
    """The class in whose source a member stands: a class may hold a base's member as its own."""
    holders = [each for each in cls.__mro__ if name in vars(each)]
    stands = (each for each in holders if f"{each.__name__}.{name}" in places_of(each.__module__))
    return next(stands, holders[0] if holders else None)


def find_module(app, module, fullname):
    """`viewcode-follow-imported`: the module that a documented name comes from."""
    owner = importlib.import_module(module)
    parts = fullname.split(".")
    for part in parts[:-1]:
        owner = getattr(owner, part, None)
    if inspect.isclass(owner):
        home = home_of(owner, parts[-1])
        return home.__module__ if home else None
    found = getattr(getattr(owner, parts[-1], None), "__module__", None)
    # Those of `datagrams` have entries of their own: links back from a module's source have one
    # prefix. What an alias of `types` stands for is of other modules.
    return found if (found or "").startswith("ipv4") and found != "ipv4.datagrams" else module


def find_source(app, module):
    """`viewcode-find-source`: text and places, members under every class that has them too."""
    path = source_of(module) if module.startswith("ipv4") else None
    if path is None:
        return None
    places = places_of(module)
    tags = {name: (place.kind, place.first, place.last) for name, place in places.items()}
    faces = [*CONNS, ipv4.aio.AsyncPacketConn, ipv4.aio.AsyncRawConn]
    for face in faces:
        for name in public(face):
            home = home_of(face, name)
            if home.__module__ == module and f"{home.__name__}.{name}" in tags:
                tags[f"{face.__name__}.{name}"] = tags[f"{home.__name__}.{name}"]
    return path.read_text(), tags


# --- autodoc --------------------------------------------------------------------------------------


def without_attributes(app, what, name, obj, options, lines):
    """Attributes are listed one by one below their class, not in its own text."""
    if what != "class":
        return
    text = "\n".join(lines)
    head, _, rest = text.partition("\nAttributes\n----------\n")
    after = re.search(r"^(\w+)\n-+$", rest, re.MULTILINE)
    lines[:] = (head + ("\n\n" + rest[after.start() :] if after else "")).splitlines()


def setup(app):
    app.add_role("name", name_role)
    app.add_role("figure", figure_role)
    for name, directive in {
        "conn-members": Members,
        "data-type": DataType,
        "enumeration": Enumeration,
        "flag-table": FlagTable,
        "option-table": OptionTable,
        "feature-table": FeatureTable,
        "functions": Functions,
        "instructions": Instructions,
        "type-aliases": TypeAliases,
        "command": Command,
        "bench-drawing": BenchDrawing,
        "batch-drawing": BatchDrawing,
        "path-drawing": PathDrawing,
        "floors-drawing": FloorsDrawing,
    }.items():
        app.add_directive(name, directive)
    app.connect("missing-reference", resolve_name)
    app.connect("viewcode-follow-imported", find_module)
    app.connect("viewcode-find-source", find_source)
    app.connect("autodoc-process-docstring", without_attributes, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
