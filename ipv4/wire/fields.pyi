# Nothing of Python's: what stands here are C functions.
