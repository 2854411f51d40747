/* Rooms for control data, as sums of what can stand in them (cmsg(3)).
 *
 * Whoever adds a control message adds its CMSG_SPACE here, and the compiler adds it up. */
#ifndef IPV4_ROOMS_H
#define IPV4_ROOMS_H

#include "systems.h"

/* One of each that can be switched on by a ControlFlags. */
#define IPV4_SPACE_TTL CMSG_SPACE(sizeof(int))
#define IPV4_SPACE_PKTINFO                                                                   \
  (OPT_IP_PKTINFO < 0 ? CMSG_SPACE(4) + CMSG_SPACE(IPV4_LINK_SIZE)                           \
                      : CMSG_SPACE(sizeof(struct in_pktinfo)))
#define IPV4_SPACE_TOS CMSG_SPACE(1)
#define IPV4_SPACE_TIMESTAMP CMSG_SPACE(sizeof(struct timespec))
#define IPV4_SPACE_DROPS CMSG_SPACE(sizeof(uint32_t))
#define IPV4_SPACE_ORIGINAL_DST CMSG_SPACE(sizeof(struct sockaddr_in))
#define IPV4_SPACE_SEGMENT_SIZE CMSG_SPACE(sizeof(int))
#define IPV4_SPACE_OPTIONS CMSG_SPACE(40)
#define IPV4_RECEIVE_SPACE                                                                   \
  (IPV4_SPACE_TTL + IPV4_SPACE_PKTINFO + IPV4_SPACE_TOS + IPV4_SPACE_TIMESTAMP +             \
   IPV4_SPACE_DROPS + IPV4_SPACE_ORIGINAL_DST + IPV4_SPACE_SEGMENT_SIZE + IPV4_SPACE_OPTIONS)

/* SCM_TIMESTAMPING's three stamps, and an entry of the error queue with its offender. */
#define IPV4_SPACE_TIMESTAMPING CMSG_SPACE(3 * sizeof(struct timespec))
#define IPV4_SPACE_ERROR CMSG_SPACE(16 + sizeof(struct sockaddr_in))

/* What a single read has room for: all of that, and more that somebody else switched on. */
#define IPV4_CONTROL_ROOM 768
_Static_assert(IPV4_CONTROL_ROOM >=
                 IPV4_RECEIVE_SPACE + IPV4_SPACE_TIMESTAMPING + IPV4_SPACE_ERROR + 256,
               "room for everything that can be switched on, and 256 bytes for the unknown");

/* What a slot of a batch has room for at the least: what packets nearly always tell, so that what
 * somebody else switched on beside the batch's own flags pushes none of it out. */
#define IPV4_SLOT_CONTROL                                                                    \
  (IPV4_SPACE_TTL + IPV4_SPACE_PKTINFO + IPV4_SPACE_TOS + IPV4_SPACE_TIMESTAMP +             \
   IPV4_SPACE_DROPS)

/* What ControlMessage.encode may write beside `extra`: packet info, TTL, TOS, segment size and
 * options. */
#define IPV4_SEND_ROOM                                                                       \
  (IPV4_SPACE_PKTINFO + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(1) + CMSG_SPACE(sizeof(uint16_t)) + \
   CMSG_SPACE(40))
_Static_assert(IPV4_SEND_ROOM <= 256, "it lies on the stack of every write");

#endif
