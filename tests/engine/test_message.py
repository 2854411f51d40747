"""Message: its fields, what it pins, what it refuses."""

import pytest

from ipv4 import Message


@pytest.mark.parity("Message")
def test_message_fields():
    first, second = bytearray(4), b"read-only"
    message = Message([first, second], bytearray(8), ("1.2.3.4", 5))
    assert message.buffers == [first, second]
    assert (message.addr, message.n, message.nn, message.flags) == (("1.2.3.4", 5), 0, 0, 0)
    message.buffers = first
    assert message.buffers == [first]
    message.buffers = []
    message.oob = None
    message.addr = None
    assert (message.buffers, message.oob, message.addr, message.control) == ([], None, None, None)
    assert Message().buffers == []


def test_message_pins_its_buffers():
    buffer = bytearray(4)
    message = Message([buffer])
    with pytest.raises(BufferError):
        buffer.append(1)
    message.buffers = ()
    buffer.append(1)
    message.oob = buffer
    with pytest.raises(BufferError):
        buffer.append(1)
    del message
    buffer.append(1)


def test_message_refuses():
    message = Message([bytearray(3)])
    for bad in (None, 3, "text", [None], [b"a", 3]):
        with pytest.raises(TypeError, match=r"buffers\[\d\]"):
            message.buffers = bad
    with pytest.raises(BufferError, match=r"buffers\[0\]"):
        message.buffers = memoryview(bytearray(8))[::2]
    with pytest.raises(ValueError, match="1024"):
        message.buffers = [b""] * 1025
    with pytest.raises(TypeError, match="oob"):
        message.oob = "text"
    assert message.buffers == [bytearray(3)]
