/* The socket options that the package names: level, name, the kernel's number, and the version of
 * Linux that brought it (include/uapi/linux/in.h, udp.h, asm-generic/socket.h).
 *
 * On Linux the numbers are these and not those of the build machine's headers, which may be older
 * than the kernel that a wheel meets. On another system, and on the few architectures that number
 * their socket level otherwise, meson.build asks the compiler for each name: the header's, or -1.
 *
 * A new option is a new line here, and a row of options.py. */
#ifndef IPV4_OPTIONS_H
#define IPV4_OPTIONS_H

/* Stamps come in the form that a C program's time_t has (socket(7)). */
#define IPV4_BY_TIME(old, wide) (sizeof(time_t) == sizeof(long) ? (old) : (wide))

#define IPV4_OPTIONS(OPTION)                                         \
  OPTION(IPPROTO_IP, IP_TOS, 1, "1.0")                                  \
  OPTION(IPPROTO_IP, IP_TTL, 2, "1.0")                                  \
  OPTION(IPPROTO_IP, IP_HDRINCL, 3, "2.0")                              \
  OPTION(IPPROTO_IP, IP_OPTIONS, 4, "2.0")                              \
  OPTION(IPPROTO_IP, IP_ROUTER_ALERT, 5, "2.2")                         \
  OPTION(IPPROTO_IP, IP_RECVOPTS, 6, "2.2")                             \
  OPTION(IPPROTO_IP, IP_RETOPTS, 7, "2.2")                              \
  OPTION(IPPROTO_IP, IP_PKTINFO, 8, "2.2")                              \
  OPTION(IPPROTO_IP, IP_MTU_DISCOVER, 10, "2.2")                        \
  OPTION(IPPROTO_IP, IP_RECVERR, 11, "2.2")                             \
  OPTION(IPPROTO_IP, IP_RECVTTL, 12, "2.2")                             \
  OPTION(IPPROTO_IP, IP_RECVTOS, 13, "2.2")                             \
  OPTION(IPPROTO_IP, IP_MTU, 14, "2.2")                                 \
  OPTION(IPPROTO_IP, IP_FREEBIND, 15, "2.4")                            \
  OPTION(IPPROTO_IP, IP_TRANSPARENT, 19, "2.6.24")                      \
  OPTION(IPPROTO_IP, IP_RECVORIGDSTADDR, 20, "2.6.29")                  \
  OPTION(IPPROTO_IP, IP_MINTTL, 21, "2.6.34")                           \
  OPTION(IPPROTO_IP, IP_NODEFRAG, 22, "2.6.36")                         \
  OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 24, "4.2")                \
  OPTION(IPPROTO_IP, IP_MULTICAST_IF, 32, "1.2")                        \
  OPTION(IPPROTO_IP, IP_MULTICAST_TTL, 33, "1.2")                       \
  OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, 34, "1.2")                      \
  OPTION(IPPROTO_IP, MCAST_JOIN_GROUP, 42, "2.6")                       \
  OPTION(IPPROTO_IP, MCAST_BLOCK_SOURCE, 43, "2.6")                     \
  OPTION(IPPROTO_IP, MCAST_UNBLOCK_SOURCE, 44, "2.6")                   \
  OPTION(IPPROTO_IP, MCAST_LEAVE_GROUP, 45, "2.6")                      \
  OPTION(IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, 46, "2.6")                \
  OPTION(IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, 47, "2.6")               \
  OPTION(IPPROTO_IP, MCAST_MSFILTER, 48, "2.6")                         \
  OPTION(IPPROTO_IP, IP_MULTICAST_ALL, 49, "2.6.31")                    \
  OPTION(IPPROTO_IP, IP_UNICAST_IF, 50, "3.4")                          \
  OPTION(IPPROTO_IP, IP_LOCAL_PORT_RANGE, 51, "6.3")                    \
  OPTION(IPPROTO_IP, SO_ORIGINAL_DST, 80, "2.4")                        \
  OPTION(SOL_SOCKET, SO_REUSEADDR, 2, "1.0")                            \
  OPTION(SOL_SOCKET, SO_BROADCAST, 6, "1.0")                            \
  OPTION(SOL_SOCKET, SO_SNDBUF, 7, "1.0")                               \
  OPTION(SOL_SOCKET, SO_RCVBUF, 8, "1.0")                               \
  OPTION(SOL_SOCKET, SO_PRIORITY, 12, "2.2")                            \
  OPTION(SOL_SOCKET, SO_REUSEPORT, 15, "3.9")                           \
  OPTION(SOL_SOCKET, SO_ATTACH_FILTER, 26, "2.2")                       \
  OPTION(SOL_SOCKET, SO_GET_FILTER, 26, "3.8")                          \
  OPTION(SOL_SOCKET, SO_DETACH_FILTER, 27, "2.2")                       \
  OPTION(SOL_SOCKET, SO_SNDBUFFORCE, 32, "2.6.14")                      \
  OPTION(SOL_SOCKET, SO_RCVBUFFORCE, 33, "2.6.14")                      \
  OPTION(SOL_SOCKET, SO_TIMESTAMPNS, IPV4_BY_TIME(35, 64), "2.6.22")    \
  OPTION(SOL_SOCKET, SCM_TIMESTAMPNS, IPV4_BY_TIME(35, 64), "2.6.22")   \
  OPTION(SOL_SOCKET, SO_MARK, 36, "2.6.25")                             \
  OPTION(SOL_SOCKET, SO_TIMESTAMPING, IPV4_BY_TIME(37, 65), "2.6.30")   \
  OPTION(SOL_SOCKET, SCM_TIMESTAMPING, IPV4_BY_TIME(37, 65), "2.6.30")  \
  OPTION(SOL_SOCKET, SO_RXQ_OVFL, 40, "2.6.33")                         \
  OPTION(SOL_SOCKET, SO_LOCK_FILTER, 44, "3.9")                         \
  OPTION(SOL_SOCKET, SO_BUSY_POLL, 46, "3.11")                          \
  OPTION(SOL_SOCKET, SO_MAX_PACING_RATE, 47, "3.13")                    \
  OPTION(SOL_SOCKET, SO_INCOMING_CPU, 49, "4.4")                        \
  OPTION(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, 51, "4.5")               \
  OPTION(SOL_SOCKET, SO_MEMINFO, 55, "4.12")                            \
  OPTION(SOL_SOCKET, SO_BINDTOIFINDEX, 62, "5.1")                       \
  OPTION(SOL_UDP, UDP_SEGMENT, 103, "4.18")                             \
  OPTION(SOL_UDP, UDP_GRO, 104, "5.0")                                  \
  OPTION(SOL_RAW, ICMP_FILTER, 1, "2.2")

/* OPT_IP_TOS and so on. */
#if !IPV4_ASKED_HEADERS
enum ipv4_option {
#define IPV4_OPTION(level, name, number, since) OPT_##name = (number),
  IPV4_OPTIONS(IPV4_OPTION)
#undef IPV4_OPTION
};
#endif

#endif
