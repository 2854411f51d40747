from .batch cimport Batches


cdef class ErrorQueue(Batches):
    pass
