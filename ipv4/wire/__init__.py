"""The codecs: addresses, buffers, control messages and headers as bytes, which know no socket."""
