/* The control messages of each system: how they are laid out, and what they are called.
 *
 * A system is a list of numbers. Those of the one that this is compiled for are what its headers
 * say; the others are written down from theirs (LP64), so that reading and writing can be tested
 * for them anywhere. Compiled for one that is written down, the two lists have to agree.
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
#ifndef IPV4_SYSTEMS_H
#define IPV4_SYSTEMS_H

#include "compat.h"

#include <stddef.h>

/* Linux, 64 bits: <linux/socket.h>, <linux/in.h>, ip(7), udp(7). */
#define IPV4_LINUX(F)                                                                        \
  F(word, 8) F(align, 8) F(level_socket, 1) F(level_udp, 17)                                 \
  F(packet_info, 8) F(info_size, 12) F(info_index, 0) F(info_source, 4) F(info_dst, 8)       \
  F(dst, -1) F(link, -1) F(source, -1)                                                       \
  F(ttl, 2) F(tos, 1) F(options, 6) F(original_dst, 20) F(error, 11)                         \
  F(timestamp, 35) F(timestamping, 37) F(drops, 40) F(segments, 104)                         \
  F(send_ttl, 2) F(send_tos, 1) F(send_options, 7) F(send_segments, 103)

/* macOS: <netinet/in.h>, <sys/socket.h>; ip(4). All is padded to 4 bytes. */
#define IPV4_DARWIN(F)                                                                       \
  F(word, 4) F(align, 4) F(level_socket, 0xffff) F(level_udp, 17)                            \
  F(packet_info, 26) F(info_size, 12) F(info_index, 0) F(info_source, 4) F(info_dst, 8)      \
  F(dst, 7) F(link, 20) F(source, -1)                                                        \
  F(ttl, 24) F(tos, 27) F(options, 5) F(original_dst, -1) F(error, -1)                       \
  F(timestamp, -1) F(timestamping, -1) F(drops, -1) F(segments, -1)                          \
  F(send_ttl, 4) F(send_tos, 3) F(send_options, 8) F(send_segments, -1)

/* FreeBSD: <netinet/in.h>, <sys/socket.h>; ip(4). No message names the interface to leave by. */
#define IPV4_FREEBSD(F)                                                                      \
  F(word, 4) F(align, 8) F(level_socket, 0xffff) F(level_udp, 17)                            \
  F(packet_info, -1) F(info_size, 12) F(info_index, 0) F(info_source, 4) F(info_dst, 8)      \
  F(dst, 7) F(link, 20) F(source, 7)                                                         \
  F(ttl, 65) F(tos, 68) F(options, 5) F(original_dst, 27) F(error, -1)                       \
  F(timestamp, -1) F(timestamping, -1) F(drops, -1) F(segments, -1)                          \
  F(send_ttl, 4) F(send_tos, 3) F(send_options, 8) F(send_segments, -1)

/* NetBSD on x86-64: <netinet/in.h>, <sys/socket.h>; ip(4). in_pktinfo has one address, and stands
 * the other way around. */
#define IPV4_NETBSD(F)                                                                       \
  F(word, 4) F(align, 8) F(level_socket, 0xffff) F(level_udp, 17)                            \
  F(packet_info, 25) F(info_size, 8) F(info_index, 4) F(info_source, 0) F(info_dst, 0)       \
  F(dst, 7) F(link, 20) F(source, 7)                                                         \
  F(ttl, 23) F(tos, -1) F(options, 5) F(original_dst, -1) F(error, -1)                       \
  F(timestamp, -1) F(timestamping, -1) F(drops, -1) F(segments, -1)                          \
  F(send_ttl, 4) F(send_tos, 3) F(send_options, 8) F(send_segments, -1)

/* Other systems have each name or not; Linux has these types whatever its headers' age. */
#ifdef IP_RECVDSTADDR
#define IPV4_RECVDSTADDR IP_RECVDSTADDR
#else
#define IPV4_RECVDSTADDR -1
#endif
#ifdef IP_RECVIF
#define IPV4_RECVIF IP_RECVIF
#else
#define IPV4_RECVIF -1
#endif
#ifdef IP_SENDSRCADDR
#define IPV4_SENDSRCADDR IP_SENDSRCADDR
#else
#define IPV4_SENDSRCADDR -1
#endif
#ifdef IP_RECVPKTINFO
#define IPV4_RECVPKTINFO IP_RECVPKTINFO
#else
#define IPV4_RECVPKTINFO OPT_IP_PKTINFO
#endif

/* A sockaddr_dl, whose first four bytes are read, as long as FreeBSD's. */
#define IPV4_LINK_SIZE 64

/* Where the option has a type of its own beside it, the message has the option's. */
#ifdef __linux__
#define IPV4_TTL_TYPE OPT_IP_TTL
#define IPV4_TOS_TYPE OPT_IP_TOS
#else
#define IPV4_TTL_TYPE OPT_IP_RECVTTL
#define IPV4_TOS_TYPE OPT_IP_RECVTOS
#endif

#define IPV4_HERE(F)                                                                         \
  F(word, (int)offsetof(struct cmsghdr, cmsg_level))                                         \
  F(align, (int)(CMSG_SPACE(1) - CMSG_SPACE(0)))                                             \
  F(level_socket, SOL_SOCKET) F(level_udp, SOL_UDP)                                          \
  F(packet_info, OPT_IP_PKTINFO) F(info_size, (int)sizeof(struct in_pktinfo))                \
  F(info_index, (int)offsetof(struct in_pktinfo, ipi_ifindex))                               \
  F(info_source, (int)offsetof(struct in_pktinfo, ipi_spec_dst))                             \
  F(info_dst, (int)offsetof(struct in_pktinfo, ipi_addr))                                    \
  F(dst, IPV4_RECVDSTADDR) F(link, IPV4_RECVIF) F(source, IPV4_SENDSRCADDR)                  \
  F(ttl, IPV4_TTL_TYPE) F(tos, IPV4_TOS_TYPE) F(options, OPT_IP_RECVOPTS)                    \
  F(original_dst, OPT_IP_RECVORIGDSTADDR) F(error, OPT_IP_RECVERR)                           \
  F(timestamp, OPT_SCM_TIMESTAMPNS) F(timestamping, OPT_SCM_TIMESTAMPING)                    \
  F(drops, OPT_SO_RXQ_OVFL) F(segments, OPT_UDP_GRO)                                         \
  F(send_ttl, OPT_IP_TTL) F(send_tos, OPT_IP_TOS) F(send_options, OPT_IP_RETOPTS)            \
  F(send_segments, OPT_UDP_SEGMENT)

struct ipv4_system {
#define IPV4_FIELD(name, value) int name;
  IPV4_HERE(IPV4_FIELD)
#undef IPV4_FIELD
};

#define IPV4_FIELD(name, value) .name = (value),
static const struct ipv4_system ipv4_here = {IPV4_HERE(IPV4_FIELD)};
struct ipv4_named_system {
  const char *name;
  struct ipv4_system numbers;
};
static const struct ipv4_named_system ipv4_systems[] = {
  {"linux", {IPV4_LINUX(IPV4_FIELD)}},
  {"darwin", {IPV4_DARWIN(IPV4_FIELD)}},
  {"freebsd", {IPV4_FREEBSD(IPV4_FIELD)}},
  {"netbsd", {IPV4_NETBSD(IPV4_FIELD)}},
};
#undef IPV4_FIELD
enum { IPV4_SYSTEMS = sizeof ipv4_systems / sizeof ipv4_systems[0] };

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
#define IPV4_WRITTEN IPV4_LINUX
#elif defined(__APPLE__)
#define IPV4_WRITTEN IPV4_DARWIN
#elif defined(__FreeBSD__) && defined(__LP64__)
#define IPV4_WRITTEN IPV4_FREEBSD
#elif defined(__NetBSD__) && defined(__x86_64__)
#define IPV4_WRITTEN IPV4_NETBSD
#endif
#ifdef IPV4_WRITTEN
enum {
#define IPV4_FIELD(name, value) IPV4_HERE_##name = (value),
  IPV4_HERE(IPV4_FIELD)
#undef IPV4_FIELD
#define IPV4_FIELD(name, value) IPV4_WRITTEN_##name = (value),
  IPV4_WRITTEN(IPV4_FIELD)
#undef IPV4_FIELD
};
#define IPV4_FIELD(name, value)                                                              \
  _Static_assert(IPV4_HERE_##name == IPV4_WRITTEN_##name, "the headers say otherwise: " #name);
IPV4_HERE(IPV4_FIELD)
#undef IPV4_FIELD
#endif

#endif
