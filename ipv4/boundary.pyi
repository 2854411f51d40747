# C functions alone, which other compiled modules of the package use.
