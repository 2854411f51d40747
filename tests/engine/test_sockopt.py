"""The one door to setsockopt and getsockopt, and what comes back from it."""

import socket

import pytest


def test_getsockopt_and_setsockopt(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 3
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 4) == (2).to_bytes(4, "little")
    with pytest.raises(OSError, match="option 9999"):
        conn.setsockopt(0, 9999, 1)
    for args in ((-1, 1, 1), (0, 2**40, 1), (0, 1, 2**40)):
        with pytest.raises(ValueError):
            conn.setsockopt(*args)
    with pytest.raises(TypeError):
        conn.setsockopt(0, 1, "1")
