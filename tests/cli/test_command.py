"""The `ipv4` command line itself: help, version, and what it says to wrong input."""

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from support.cli_program import SCRIPT, run

COMMANDS = ["demo", "ospf-hello", "mark-tcp", "mdns", "trace", "doctor"]


def command_line(*args, **options):
    return run(*args, check=False, **options)


def test_version():
    done = command_line("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"ipv4 {importlib.metadata.version('ipv4')}\n"


@pytest.mark.parametrize("args", [[], ["--help"]], ids=["bare", "--help"])
def test_help_lists_every_command(args):
    done = command_line(*args)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s+\w", done.stdout, re.MULTILINE)
    assert "example" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_gives_an_example(command):
    done = command_line(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    example = done.stdout.partition("example")[2]
    assert command in example


def test_module_is_the_command():
    # -P: the current directory may be the source tree, whose bare package cannot be imported.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ipv4", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == command_line("--version").stdout


def test_importing_the_library_does_not_import_its_command():
    code = "import ipv4, sys; print([m for m in sys.modules if m.startswith('ipv4.cli')])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["ospf-hello"], "required: IFACE"),
        (["ospf-hello", "nosuch0"], "there is no interface 'nosuch0'; this machine has lo"),
        (["ospf-hello", "lo", "--router-id", "1"], "'1' is not an IPv4 address"),
        (["ospf-hello", "lo", "--mask", "255.0.255.0"], "255.0.255.0 is not a mask"),
        (["ospf-hello", "lo", "--hello-interval", "0"], "0 is not in 1..65535"),
        (["ospf-hello", "lo", "--hello-interval", "soon"], "'soon' is not a whole number"),
        (["ospf-hello", "lo", "--priority", "256"], "256 is not in 0..255"),
        (["mark-tcp", "--listen", "localhost"], "'localhost' is not ADDRESS:PORT"),
        (["mark-tcp", "--listen", "::1:1024"], "'::1' is not an IPv4 address"),
        (["mark-tcp", "--listen", "127.1:1024"], "'127.1' is not an IPv4 address"),
        (["mark-tcp", "--listen", ":1024"], "':1024' is not ADDRESS:PORT"),
        (["mark-tcp", "--listen", "host.invalid:1"], "'host.invalid' is neither an IPv4 address"),
        (["ospf-hello", "lo", "--area", "4294967296"], "4294967296 is not in 0..4294967295"),
        (["ospf-hello", "lo", "--area", "9" * 5000], "is not in 0..4294967295"),
        (["ospf-hello", "lo", "--area", "-1"], "'-1' is not an area"),
        (["ospf-hello", "lo", "--area", "1.2"], "'1.2' is not an area"),
        (["mdns", "lo", "printer"], "'printer' is not NAME=ADDRESS, such as printer=192.0.2.7"),
        (["mdns", "lo", "=192.0.2.1"], "'=192.0.2.1' is not NAME=ADDRESS"),
        (["mdns", "lo", "printer=host"], "'printer=host' is not NAME=ADDRESS"),
        (["mark-tcp", "--listen", "127.0.0.1:65536"], "65536 is not in 0..65535"),
        (["mark-tcp", "--tos", "0x100"], "0x100 is not in 0..255"),
        (["mark-tcp", "--ttl", "0"], "0 is not in 1..255"),
        (["mdns", "lo"], "required: NAME=ADDRESS"),
        (["trace"], "required: HOST"),
        (["trace", "127.0.0.1", "--max-hops", "256"], "256 is not in 1..255"),
        (["trace", "127.0.0.1", "--timeout", "-1"], "-1 is not above 0"),
        (["trace", "127.0.0.1", "--timeout", "nan"], "nan is not above 0"),
    ],
)
def test_wrong_arguments(args, message):
    done = command_line(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["mdns", "lo", "a..b=192.0.2.1"], "ipv4 mdns: 'a..b' is no name of the DNS"),
        (["trace", "a" * 64], "ipv4 trace: "),
    ],
)
def test_arguments_that_turn_out_wrong(args, message):
    done = command_line(*args)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_mdns_without_its_extra_names_what_to_install(tmp_path):
    # A package of that name that cannot be imported stands in for one that is not there.
    (tmp_path / "dns.py").write_text("raise ImportError('no dnspython here')\n")
    done = command_line(
        "mdns", "lo", "printer=192.0.2.1", env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "dnspython" in done.stderr
    assert "pip install 'ipv4[mdns]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_reader_that_goes_away_is_no_error(tmp_path):
    assert shutil.which("head")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"'{SCRIPT}' demo | head -n 1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 141
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = command_line("mark-tcp", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    sentence = f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert done.stderr == f"ipv4 mark-tcp: {sentence}\n"


def test_address_that_is_not_ours_is_named():
    done = command_line("mark-tcp", "--listen", "192.0.2.77:1024")
    assert done.returncode == 1
    sentence = "cannot listen on 192.0.2.77:1024: Cannot assign requested address"
    assert done.stderr == f"ipv4 mark-tcp: {sentence}\n"


@pytest.mark.parametrize("args", [["doctor"], ["doctor", "--json"], ["--help"], ["demo"]])
def test_closed_output_is_no_error(args):
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", SCRIPT, *args],
        stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("columns", [None, 60, 120])
def test_help_fits_the_terminal(columns):
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    if columns:
        environ["COLUMNS"] = str(columns)
    for command in ([], *([name] for name in COMMANDS)):
        text = run(*command, "--help", env=environ).stdout
        # Examples are to be copied, and stay as they are.
        lines = [line for line in text.partition("example")[0].splitlines() if line]
        assert max(map(len, lines)) <= (columns or 80)
        assert max(map(len, text.splitlines())) <= 80 or columns == 120


def test_shell_completion_knows_commands_and_options():
    pytest.importorskip("argcomplete")

    def completed(line):
        environ = os.environ | {
            "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout", "IFS": "",
            "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        }  # fmt: skip
        return subprocess.run(
            [SCRIPT], env=environ, capture_output=True, text=True, timeout=30, check=True
        ).stdout.split()

    assert completed("ipv4 d") == ["demo", "doctor"]
    assert completed("ipv4 trace --m") == ["--max-hops"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("NotImplementedError('no batches on plan9')", 1, "ipv4 doctor: no batches on plan9\n"),
        ("OSError(19, 'No such device: eth9')", 1, "ipv4 doctor: No such device: eth9\n"),
        ("KeyboardInterrupt()", 130, ""),
    ],
)
def test_error_of_a_command_is_one_sentence(error, status, message):
    code = f"""if True:
        import sys
        from ipv4.cli import doctor, main
        def run(args):
            raise {error}
        doctor.run = run
        sys.exit(main(["doctor"]))
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", message)
