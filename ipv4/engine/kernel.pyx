"""The socket options by name, as libc/numbers.h lists them: number, level, and since when."""

cdef extern from *:
    """
    #include "compat.h"
    #define IPV4_OPTION(level, name, number, since) {#name, #level, OPT_##name, since},
    static const struct {
      const char *name, *level;
      int number;
      const char *since;
    } ipv4_options[] = {IPV4_OPTIONS(IPV4_OPTION)};
    enum { IPV4_OPTION_COUNT = sizeof ipv4_options / sizeof *ipv4_options };
    """
    struct Row:
        const char *name
        const char *level
        int number
        const char *since
    const Row *ipv4_options
    int IPV4_OPTION_COUNT

from ..libc cimport socket as c

# Numbers by name; -1 where this system has no such option.
KERNEL = {
    "IPPROTO_IP": c.IPPROTO_IP, "SOL_SOCKET": c.SOL_SOCKET, "SOL_UDP": c.SOL_UDP,
    "SOL_RAW": c.SOL_RAW,
}
# The name of an option's level, and the version of Linux that brought it.
LEVEL = {}
SINCE = {}

cdef int _i
for _i in range(IPV4_OPTION_COUNT):
    _name = ipv4_options[_i].name.decode()
    KERNEL[_name] = ipv4_options[_i].number
    LEVEL[_name] = ipv4_options[_i].level.decode()
    SINCE[_name] = ipv4_options[_i].since.decode()
