/* Rooms for control data, as sums of what can stand in them (cmsg(3)): made from numbers.h. */
#ifndef IPV4_ROOMS_H
#define IPV4_ROOMS_H

#include "systems.h"

/* One of each that can be switched on by a ControlFlags. Where packet info is missing, two messages
 * stand for it. */
#define IPV4_ROW(flags, option, type, attributes, feature) +CMSG_SPACE(sizeof(type))
#define IPV4_RECEIVE_SPACE                                                                   \
  ((OPT_IP_PKTINFO < 0 ? CMSG_SPACE(4) + CMSG_SPACE(IPV4_LINK_SIZE) : 0) IPV4_FLAGS(IPV4_ROW))

/* SCM_TIMESTAMPING's three stamps, and an entry of the error queue with its offender. */
#define IPV4_SPACE_TIMESTAMPING CMSG_SPACE(3 * sizeof(struct timespec))
#define IPV4_SPACE_ERROR CMSG_SPACE(16 + sizeof(struct sockaddr_in))

enum {
  /* What a single read has room for: all of that, and more that somebody else switched on. */
  IPV4_CONTROL_ROOM = 768,

  /* What a slot of a batch has room for at the least: what packets nearly always tell (TTL, packet
   * info, TOS, time of arrival, drops), so that what somebody else switched on beside the batch's
   * own flags pushes none of it out. */
  IPV4_SLOT_CONTROL = CMSG_SPACE(sizeof(int)) + CMSG_SPACE(1) +
                      CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t)) +
                      (OPT_IP_PKTINFO < 0 ? CMSG_SPACE(4) + CMSG_SPACE(IPV4_LINK_SIZE)
                                          : CMSG_SPACE(sizeof(struct in_pktinfo))),

  /* What ControlMessage.encode may write beside `extra`: packet info, segment size, options, and
   * the numbers. */
#define IPV4_PUT(attribute, field, type, written, ...) +CMSG_SPACE(sizeof(written))
  IPV4_SEND_ROOM = CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(uint16_t)) +
                   CMSG_SPACE(sizeof(struct ipv4_ip_options)) IPV4_SENT(IPV4_PUT),
};
_Static_assert(IPV4_CONTROL_ROOM >=
                 IPV4_RECEIVE_SPACE + IPV4_SPACE_TIMESTAMPING + IPV4_SPACE_ERROR + 256,
               "room for everything that can be switched on, and 256 bytes for the unknown");
_Static_assert(IPV4_SEND_ROOM <= 256, "it lies on the stack of every write");
#undef IPV4_PUT
#undef IPV4_ROW

#endif
