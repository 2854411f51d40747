/* Control messages, made from the rows of numbers.h: what each system calls them, what is read of
 * them, and what is written. */
#ifndef IPV4_SYSTEMS_H
#define IPV4_SYSTEMS_H

#include "compat.h"

#include <stddef.h>

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

/* RFC 791 section 3.1. */
struct ipv4_ip_options {
  unsigned char bytes[40];
};

/* --- The systems --------------------------------------------------------------------------------- */

struct ipv4_system {
#define IPV4_ROW(name, here, linux_, darwin, freebsd, netbsd) int name;
  IPV4_MESSAGES(IPV4_ROW)
#undef IPV4_ROW
};

static const struct ipv4_system ipv4_here = {
#define IPV4_ROW(name, here, linux_, darwin, freebsd, netbsd) .name = (here),
  IPV4_MESSAGES(IPV4_ROW)
#undef IPV4_ROW
};

struct ipv4_named_system {
  const char *name;
  struct ipv4_system numbers;
};

#define IPV4_LINUX(name, here, linux_, darwin, freebsd, netbsd) .name = (linux_),
#define IPV4_DARWIN(name, here, linux_, darwin, freebsd, netbsd) .name = (darwin),
#define IPV4_FREEBSD(name, here, linux_, darwin, freebsd, netbsd) .name = (freebsd),
#define IPV4_NETBSD(name, here, linux_, darwin, freebsd, netbsd) .name = (netbsd),
static const struct ipv4_named_system ipv4_systems[] = {
  {"linux", {IPV4_MESSAGES(IPV4_LINUX)}},
  {"darwin", {IPV4_MESSAGES(IPV4_DARWIN)}},
  {"freebsd", {IPV4_MESSAGES(IPV4_FREEBSD)}},
  {"netbsd", {IPV4_MESSAGES(IPV4_NETBSD)}},
};
#undef IPV4_LINUX
#undef IPV4_DARWIN
#undef IPV4_FREEBSD
#undef IPV4_NETBSD
enum { IPV4_SYSTEMS = sizeof ipv4_systems / sizeof ipv4_systems[0] };

/* Compiled for one that is written down, the two have to agree. */
#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
#define IPV4_WRITTEN(linux_, darwin, freebsd, netbsd) (linux_)
#elif defined(__APPLE__)
#define IPV4_WRITTEN(linux_, darwin, freebsd, netbsd) (darwin)
#elif defined(__FreeBSD__) && defined(__LP64__)
#define IPV4_WRITTEN(linux_, darwin, freebsd, netbsd) (freebsd)
#elif defined(__NetBSD__) && defined(__x86_64__)
#define IPV4_WRITTEN(linux_, darwin, freebsd, netbsd) (netbsd)
#endif
#ifdef IPV4_WRITTEN
#define IPV4_ROW(name, here, linux_, darwin, freebsd, netbsd)                                \
  _Static_assert((here) == IPV4_WRITTEN(linux_, darwin, freebsd, netbsd),                    \
                 "the headers say otherwise: " #name);
IPV4_MESSAGES(IPV4_ROW)
#undef IPV4_ROW
#endif

/* --- Flags --------------------------------------------------------------------------------------- */

struct ipv4_flag {
  int flags;
  const char *option;
  size_t space; /* bytes of control data that it brings */
  const char *attributes, *feature;
};

static const struct ipv4_flag ipv4_flags[] = {
#define IPV4_ROW(flags, option, type, attributes, feature)                                   \
  {flags, #option, CMSG_SPACE(sizeof(type)), attributes, feature},
  IPV4_FLAGS(IPV4_ROW)
#undef IPV4_ROW
};

enum {
  IPV4_FLAG_ROWS = sizeof ipv4_flags / sizeof ipv4_flags[0],
#define IPV4_ROW(flags, option, type, attributes, feature) | (flags)
  IPV4_ALL_FLAGS = 0 IPV4_FLAGS(IPV4_ROW),
#undef IPV4_ROW
#define IPV4_ROW(flags, option, type, attributes, feature) IPV4_FLAG_##option = (flags),
  IPV4_FLAGS(IPV4_ROW)
#undef IPV4_ROW
};

/* --- Attributes ---------------------------------------------------------------------------------- */

/* Which of them hold a value: those that are more than a number, then the numbers. */
enum {
  IPV4_BIT_TTL,
  IPV4_BIT_INTERFACE,
  IPV4_BIT_DST,
  IPV4_BIT_SPEC_DST,
  IPV4_BIT_ORIGINAL_DST,
  IPV4_BIT_OPTIONS,
  IPV4_BIT_SRC,
  IPV4_BIT_EXTRA,
#define IPV4_ROW(attribute, field, ...) IPV4_BIT_##attribute,
  IPV4_RECEIVED(IPV4_ROW) IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
    IPV4_BITS
};
_Static_assert(IPV4_BITS <= 31, "the bits of attributes stand in an int");
enum {
  IPV4_HAS_TTL = 1 << IPV4_BIT_TTL,
  IPV4_HAS_INTERFACE = 1 << IPV4_BIT_INTERFACE,
  IPV4_HAS_DST = 1 << IPV4_BIT_DST,
  IPV4_HAS_SPEC_DST = 1 << IPV4_BIT_SPEC_DST,
  IPV4_HAS_ORIGINAL_DST = 1 << IPV4_BIT_ORIGINAL_DST,
  IPV4_HAS_OPTIONS = 1 << IPV4_BIT_OPTIONS,
  IPV4_HAS_SRC = 1 << IPV4_BIT_SRC,
  IPV4_HAS_EXTRA = 1 << IPV4_BIT_EXTRA,
#define IPV4_ROW(attribute, field, ...) IPV4_HAS_##attribute = 1 << IPV4_BIT_##attribute,
  IPV4_RECEIVED(IPV4_ROW) IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
};

/* What control bytes tell, as C values; what is absent is 0. */
struct ipv4_told {
#define IPV4_ROW(attribute, field, type) type field;
  IPV4_RECEIVED(IPV4_ROW)
#undef IPV4_ROW
  uint8_t ttl, options_size;
  uint16_t original_port;
  uint32_t present; /* IPV4_HAS_... */
  int32_t ifindex;
  uint32_t dst, spec_dst, original_addr;
  /* Into the buffer that was read; NULL when absent. */
  const unsigned char *options;
  const unsigned char *error; /* IP_RECVERR's sock_extended_err and what follows it */
  size_t error_size;
  size_t unknown_space; /* that the messages without an attribute take */
};

/* Reads a message that is one number, never below 0; 0 if it is not one of those. */
static inline int ipv4_read_number(const struct ipv4_system *by, int level, int type,
                                   const unsigned char *body, size_t size,
                                   struct ipv4_told *told) {
#define IPV4_ROW(attribute, field, level_of, message, written, least, most)                  \
  if (type == by->message && level == by->level_of && by->message >= 0) {                    \
    written value;                                                                           \
    int64_t number = -1;                                                                     \
    if (size >= sizeof value) {                                                              \
      memcpy(&value, body, sizeof value);                                                    \
      number = value;                                                                        \
    }                                                                                        \
    if (number >= (least) && number <= (most)) {                                             \
      told->field = number;                                                                  \
      told->present |= IPV4_HAS_##attribute;                                                 \
    }                                                                                        \
    return 1;                                                                                \
  }
  IPV4_READ(IPV4_ROW)
#undef IPV4_ROW
  return 0;
}

/* The numbers of a ControlMessage. */
struct ipv4_numbers {
#define IPV4_ROW(attribute, field, type, ...) type field;
  IPV4_RECEIVED(IPV4_ROW) IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
};

static inline void ipv4_take_numbers(struct ipv4_numbers *numbers, const struct ipv4_told *told) {
#define IPV4_ROW(attribute, field, type)                                                     \
  if (told->present & IPV4_HAS_##attribute) numbers->field = told->field;
  IPV4_RECEIVED(IPV4_ROW)
#undef IPV4_ROW
}

static inline int ipv4_same_numbers(const struct ipv4_numbers *one,
                                    const struct ipv4_numbers *other) {
#define IPV4_ROW(attribute, field, ...) && one->field == other->field
  return 1 IPV4_RECEIVED(IPV4_ROW) IPV4_SENT(IPV4_ROW);
#undef IPV4_ROW
}

/* Where a number stands. */
struct ipv4_number_row {
  const char *name;
  uint32_t bit;
  size_t at, size; /* in ipv4_numbers; of 4 bytes are unsigned ones, of 8 signed ones */
};

static const struct ipv4_number_row ipv4_number_rows[] = {
#define IPV4_ROW(attribute, field, type, ...)                                                \
  {#field, IPV4_HAS_##attribute, offsetof(struct ipv4_numbers, field), sizeof(type)},
  IPV4_RECEIVED(IPV4_ROW) IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
};

enum {
  IPV4_NUMBER_ROWS = sizeof ipv4_number_rows / sizeof ipv4_number_rows[0],
#define IPV4_ROW(attribute, ...) | IPV4_HAS_##attribute
  IPV4_SENT_BITS = 0 IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
};

/* A number as a control message. */
struct ipv4_written {
  int level, type;
  size_t size;
  unsigned char data[8];
};

static inline void ipv4_write_number(const struct ipv4_system *by,
                                     const struct ipv4_numbers *numbers, uint32_t bit,
                                     struct ipv4_written *out) {
#define IPV4_ROW(attribute, field, stored, written, level_of, message)                       \
  if (bit == IPV4_HAS_##attribute) {                                                         \
    written value = (written)numbers->field;                                                 \
    out->level = by->level_of;                                                               \
    out->type = by->message;                                                                 \
    out->size = sizeof value;                                                                \
    memcpy(out->data, &value, sizeof value);                                                 \
    return;                                                                                  \
  }
  IPV4_SENT(IPV4_ROW)
#undef IPV4_ROW
  out->size = 0;
}

#endif
