"""Memory that is refused, at each step of every public call."""

import os
import sys
import warnings

import pytest
from support import in_child


@pytest.mark.skipif(
    sys.version_info[:2] in ((3, 12), (3, 13)),
    # `tuple(x for _ in "ab")` with its second allocation refused, 300 times, is enough.
    reason="CPython 3.12 and 3.13 themselves die where a generator is refused memory",
)
@pytest.mark.unsanitized
@pytest.mark.parity("descriptors and memory run out")
def test_memory_refused_at_every_step():
    """Every public call with the k-th allocation refused, for each k: MemoryError or success."""
    _testcapi = pytest.importorskip("_testcapi")
    from exercise import calls

    def body():
        # A socket whose wrapping was refused is closed by the interpreter, which warns.
        warnings.simplefilter("ignore", ResourceWarning)
        before = len(os.listdir("/proc/self/fd"))
        table, conns = calls()
        refused = 0
        for name, call in table.items():
            if name in ("waiting", "hostile", "shut", "exchange_list"):
                continue  # they assert on errors of their own
            call()  # what it imports is compiled before: there CPython 3.11 itself crashes
            for k in range(1, 201):
                _testcapi.set_nomemory(k, k + 1)
                try:
                    try:
                        call()
                    finally:
                        _testcapi.remove_mem_hooks()
                except BaseException:
                    refused += 1  # a MemoryError, or what a caller made of it
        for conn in conns:
            assert conn.local_addr[0] == "127.0.0.1"
            conn.close()
        assert len(os.listdir("/proc/self/fd")) == before
        return refused

    assert in_child(body, timeout=120) > 100
