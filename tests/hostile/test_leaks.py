"""Every public call, error paths included, ten thousand times: nothing may grow."""

import gc
import os
import sys

import pytest
from exercise import calls

ROUNDS = 10_000
# What a call may leave behind once and for all: caches of peers, interned names, free lists.
BLOCKS = 200
PAGES = 256


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident_pages():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


@pytest.fixture(scope="module")
def table():
    table, conns = calls()
    yield table
    for conn in conns:
        conn.close()


NAMES = [
    "exchange", "exchange_told", "exchange_list", "exchange_batch", "waiting", "open_and_close",
    "messages", "headers", "controls", "options", "groups", "error_queue", "hostile", "shut",
    "checksum", "iter_options", "compute_checksum", "new_control_message", "bpf",
    "exchange_raw", "raw_refused",
]  # fmt: skip


def test_names_cover_the_table(table):
    assert set(table) <= set(NAMES)


@pytest.mark.privileged
@pytest.mark.unsanitized
@pytest.mark.parametrize("name", NAMES)
def test_nothing_grows(table, name):
    call = table[name]
    for _ in range(200):  # fills caches and free lists
        call()
    gc.collect()
    none = sys.getrefcount(None)
    descriptors, blocks, pages = open_descriptors(), sys.getallocatedblocks(), resident_pages()
    for _ in range(ROUNDS):
        call()
    gc.collect()
    grown = sys.getallocatedblocks() - blocks
    assert open_descriptors() == descriptors
    assert grown < BLOCKS, f"{grown} blocks after {ROUNDS} rounds"
    assert resident_pages() - pages < PAGES, "resident memory grew"
    if sys.version_info < (3, 12):  # later, None is immortal
        assert abs(sys.getrefcount(None) - none) < BLOCKS


@pytest.mark.unsanitized
def test_a_leak_is_seen():
    """The same measure on a function that leaks."""
    kept = []
    blocks = sys.getallocatedblocks()
    for _ in range(ROUNDS):
        kept.append(bytearray(1))
    assert sys.getallocatedblocks() - blocks > BLOCKS
