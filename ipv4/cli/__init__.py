"""The ``ipv4`` command: working examples of the library, and a look at what a machine allows.

Each subcommand is a file of its own, written to be read, with the same five names: ``SUMMARY``,
``DESCRIPTION`` and ``EPILOG`` for its help, ``add_arguments(parser)`` and ``run(args)``. Beside
them stand the protocols that they speak (`ospf`, `icmp`) and what several of them need
(`arguments`, `ifreq`, `layout`, `privilege`, `progress`, `sandbox`).
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from . import layout

__all__ = ["main"]

DESCRIPTION = """\
IP-level control of IPv4 sockets: multicast, raw packets, control messages, batches.

Every subcommand is a small program that uses the `ipv4` library; their source, in the package's
`cli` folder, is meant to be read. Start with `ipv4 demo`, which needs no privilege and touches
no network but its own.
"""

EPILOG = """\
examples:
  ipv4 demo                       raw packets and batches, on an own loopback
  ipv4 doctor                     what this machine lets the library do
  ipv4 trace --udp example.com    the route to a host, without any privilege

`ipv4 COMMAND --help` explains a command and gives an example. With argcomplete
(pip install 'ipv4[completion]') shells complete it, after
  eval "$(register-python-argcomplete ipv4)".
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``ipv4``, with every subcommand's part."""
    from . import demo, doctor, mark_tcp, mdns, ospf_hello, trace

    parser = argparse.ArgumentParser(
        prog="ipv4",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in (demo, ospf_hello, mark_tcp, mdns, trace, doctor):
        subparser = commands.add_parser(
            command.__name__.rpartition(".")[2].replace("_", "-"),
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            formatter_class=HelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class HelpFormatter(argparse.HelpFormatter):
    """Paragraphs as wide as the terminal, 80 columns where there is none; examples as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=layout.columns())

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return layout.paragraphs(text, width, indent)


class ShowVersion(argparse.Action):
    """``--version``; the version is looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ipv4 import __version__

        print(f"ipv4 {__version__}")
        parser.exit()


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that completes a command line, where argcomplete is installed."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``ipv4`` command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the command's name; those of the process when not given.

    Returns
    -------
    int
        The exit status: 0, 1 after an error, 130 after Ctrl-C in a command that was to end by
        itself, 141 when the reader of its output went away.

    Raises
    ------
    SystemExit
        By argparse (status 2), and with a sentence when something that the command needs is
        missing (status 1).
    """
    if sys.stdout is None:  # the shell's `>&-`: what is written then goes nowhere
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    parser = build_parser()
    complete(parser)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    # What a long-running command has seen is wanted now, also in a file or a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Who stops a service by SIGTERM gets the same clean end as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return args.run(args)  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at its end: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"ipv4 {args.command}: {reason}", file=sys.stderr)
        return 1
