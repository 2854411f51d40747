/* The kernel's numbers: socket options, and the control messages that packets bring and are given.
 *
 * A new option is a row here and a row of options.py. A new control message is its rows here, an
 * attribute in wire/control.pyx, and where it is asked for a flag in constants.py: rooms, reading,
 * writing, trials and tables are made from the rows. */
#ifndef IPV4_NUMBERS_H
#define IPV4_NUMBERS_H

/* --- Socket options -----------------------------------------------------------------------------
 *
 * Level, name, the kernel's number, and the version of Linux that brought it
 * (include/uapi/linux/in.h, udp.h, asm-generic/socket.h). On Linux the numbers are these and not
 * those of the build machine's headers, which may be older than the kernel that a wheel meets. On
 * another system, and on the few architectures that number their socket level otherwise,
 * meson.build asks the compiler for each name: the header's, or -1. */

/* Stamps come in the form that a C program's time_t has (socket(7)). */
#define IPV4_BY_TIME(old, wide) (sizeof(time_t) == sizeof(long) ? (old) : (wide))

#define IPV4_OPTIONS(OPTION)                                            \
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

/* --- What received packets tell -----------------------------------------------------------------
 *
 * Flags of ControlFlags, the option that asks for it, what the kernel writes, the attributes of a
 * ControlMessage that it fills, and the feature's name. None takes a privilege. */
#define IPV4_FLAGS(FLAG)                                                                   \
  FLAG(1, IP_RECVTTL, int, "ttl", "receive TTL")                                           \
  FLAG(2 | 4 | 8, IP_PKTINFO, struct in_pktinfo, "dst spec_dst ifindex",                   \
       "receive destination and interface")                                                \
  FLAG(16, IP_RECVTOS, uint8_t, "tos ecn", "receive TOS")                                  \
  FLAG(32, SO_TIMESTAMPNS, struct timespec, "timestamp", "receive timestamps")             \
  FLAG(64, SO_RXQ_OVFL, uint32_t, "drops", "receive drop counter")                         \
  FLAG(128, IP_RECVORIGDSTADDR, struct sockaddr_in, "original_dst",                        \
       "receive original destination")                                                     \
  FLAG(256, UDP_GRO, int, "segment_size", "receive coalesced segments (UDP_GRO)")          \
  FLAG(512, IP_RECVOPTS, struct ipv4_ip_options, "options", "receive options")

/* --- Attributes that are one number --------------------------------------------------------------
 *
 * The attribute's bit, the field that holds it, and the field's type. */
#define IPV4_RECEIVED(NUMBER)                                                              \
  NUMBER(TIMESTAMP, timestamp, int64_t)                                                    \
  NUMBER(DROPS, drops, uint32_t)                                                           \
  NUMBER(SEGMENT_SIZE, segment_size, uint16_t)                                             \
  NUMBER(TOS, tos, uint8_t)

/* Those that the kernel writes as one number too: level and type of the message, what is written,
 * and the numbers that can be believed; a hostile one tells nothing. */
#define IPV4_READ(READ)                                                                    \
  READ(DROPS, drops, level_socket, drops, uint32_t, 0, UINT32_MAX)                         \
  READ(SEGMENT_SIZE, segment_size, level_udp, segments, int32_t, 1, 65535)

/* Those that a packet is told: what is written, level and type of the message. */
#define IPV4_SENT(SENT)                                                                    \
  SENT(SEND_TTL, send_ttl, uint8_t, int32_t, level_ip, send_ttl)                           \
  /* One byte: kernels before 4.x refuse four, all accept one. */                          \
  SENT(SEND_TOS, send_tos, uint8_t, uint8_t, level_ip, send_tos)

/* --- The control messages of each system ---------------------------------------------------------
 *
 * Those of the system that this is compiled for are what its headers say; the others are written
 * down from theirs (LP64), so that reading and writing can be tested for them anywhere: Linux
 * (<linux/socket.h>, <linux/in.h>, ip(7), udp(7)), macOS, where all is padded to 4 bytes, FreeBSD,
 * where no message names the interface to leave by, and NetBSD on x86-64, whose in_pktinfo has one
 * address and stands the other way around (<netinet/in.h>, <sys/socket.h>, ip(4)).
 *
 *   word, align       bytes of the length, and what headers and data are padded to; musl's cmsg_len
 *                     is narrower than the kernel's, with padding beside it
 *   packet_info       type of a message that tells interface and addresses, and is told them; its
 *                     size, and where in it index, source and destination stand (source where the
 *                     destination stands: there is but one address)
 *   dst, link         types of an address and of a sockaddr_dl, where there is no packet_info
 *   source            type of the address that a packet leaves from, likewise
 *   ttl, tos, ...     types of what is received
 *   send_...          types of what is sent, in which a system may differ
 *
 * -1 stands for what a system has not. Darwin, FreeBSD and NetBSD tell a TTL as one byte of type
 * IP_RECVTTL, Linux as an int of type IP_TTL; both are read in either size. */
/* clang-format off */
#define IPV4_MESSAGES(MESSAGE)                                                               \
  /*      its field     here                                        Linux  macOS  FreeBSD NetBSD */\
  MESSAGE(word,         (int)offsetof(struct cmsghdr, cmsg_level),      8,     4,     4,      4)\
  MESSAGE(align,        (int)(CMSG_SPACE(1) - CMSG_SPACE(0)),           8,     4,     8,      8)\
  MESSAGE(level_ip,     IPPROTO_IP,                                     0,     0,     0,      0)\
  MESSAGE(level_socket, SOL_SOCKET,                                     1, 0xffff, 0xffff, 0xffff)\
  MESSAGE(level_udp,    SOL_UDP,                                       17,    17,    17,     17)\
  MESSAGE(packet_info,  OPT_IP_PKTINFO,                                 8,    26,    -1,     25)\
  MESSAGE(info_size,    (int)sizeof(struct in_pktinfo),                12,    12,    12,      8)\
  MESSAGE(info_index,   (int)offsetof(struct in_pktinfo, ipi_ifindex),    0,     0,     0,      4)\
  MESSAGE(info_source,  (int)offsetof(struct in_pktinfo, ipi_spec_dst),    4,     4,     4,      0)\
  MESSAGE(info_dst,     (int)offsetof(struct in_pktinfo, ipi_addr),     8,     8,     8,      0)\
  MESSAGE(dst,          IPV4_RECVDSTADDR,                              -1,     7,     7,      7)\
  MESSAGE(link,         IPV4_RECVIF,                                   -1,    20,    20,     20)\
  MESSAGE(source,       IPV4_SENDSRCADDR,                              -1,    -1,     7,      7)\
  MESSAGE(ttl,          IPV4_TTL_TYPE,                                  2,    24,    65,     23)\
  MESSAGE(tos,          IPV4_TOS_TYPE,                                  1,    27,    68,     -1)\
  MESSAGE(options,      OPT_IP_RECVOPTS,                                6,     5,     5,      5)\
  MESSAGE(original_dst, OPT_IP_RECVORIGDSTADDR,                        20,    -1,    27,     -1)\
  MESSAGE(error,        OPT_IP_RECVERR,                                11,    -1,    -1,     -1)\
  MESSAGE(timestamp,    OPT_SCM_TIMESTAMPNS,                           35,    -1,    -1,     -1)\
  MESSAGE(timestamping, OPT_SCM_TIMESTAMPING,                          37,    -1,    -1,     -1)\
  MESSAGE(drops,        OPT_SO_RXQ_OVFL,                               40,    -1,    -1,     -1)\
  MESSAGE(segments,     OPT_UDP_GRO,                                  104,    -1,    -1,     -1)\
  MESSAGE(send_ttl,     OPT_IP_TTL,                                     2,     4,     4,      4)\
  MESSAGE(send_tos,     OPT_IP_TOS,                                     1,     3,     3,      3)\
  MESSAGE(send_options, OPT_IP_RETOPTS,                                 7,     8,     8,      8)\
  MESSAGE(send_segments, OPT_UDP_SEGMENT,                              103,    -1,    -1,     -1)\
/* clang-format on */

#endif
