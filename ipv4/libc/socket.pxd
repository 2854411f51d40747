"""The C library as this package sees it: one block per header, only what is used.

Socket options that a system may lack are -1 there (compat.h).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t


cdef extern from "compat.h" nogil:
    # <sys/socket.h>, <sys/uio.h>
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t

    struct sockaddr:
        sa_family_t sa_family

    struct sockaddr_storage:
        sa_family_t ss_family

    struct iovec:
        void *iov_base
        size_t iov_len

    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags

    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type

    ctypedef struct mmsghdr "ipv4_mmsghdr":
        msghdr msg_hdr
        unsigned int msg_len

    size_t CMSG_LEN(size_t length)
    size_t CMSG_SPACE(size_t length)
    unsigned char *CMSG_DATA(cmsghdr *cmsg)

    ssize_t sendto(int fd, const void *data, size_t length, int flags,
                   const sockaddr *name, socklen_t namelen)
    ssize_t recvfrom(int fd, void *data, size_t length, int flags,
                     sockaddr *name, socklen_t *namelen)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recvmsg(int fd, msghdr *message, int flags)
    int recvmmsg "ipv4_recvmmsg"(int fd, mmsghdr *messages, unsigned int count, int flags)
    int sendmmsg "ipv4_sendmmsg"(int fd, mmsghdr *messages, unsigned int count, int flags)
    int recv_one "ipv4_recv_one"(int fd, mmsghdr *message, int flags)
    int send_one "ipv4_send_one"(int fd, mmsghdr *message, int flags)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
    int getsockname(int fd, sockaddr *name, socklen_t *namelen)
    int getpeername(int fd, sockaddr *name, socklen_t *namelen)

    int AF_INET, AF_UNSPEC, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW
    int MSG_DONTWAIT, MSG_TRUNC, MSG_CTRUNC, MSG_ERRQUEUE, MSG_PEEK
    int SOL_SOCKET, SOL_UDP, SOL_RAW, SO_TYPE, SO_ERROR
    int HAVE_RECVMMSG, HAVE_SENDMMSG, HAVE_EPOLL_CREATE1

    # <netinet/in.h>
    struct in_addr:
        uint32_t s_addr

    struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr

    struct ip_mreqn:
        in_addr imr_multiaddr
        in_addr imr_address
        int imr_ifindex

    struct group_req:
        uint32_t gr_interface
        sockaddr_storage gr_group

    struct group_source_req:
        uint32_t gsr_interface
        sockaddr_storage gsr_group
        sockaddr_storage gsr_source

    struct group_filter:
        uint32_t gf_interface
        sockaddr_storage gf_group
        uint32_t gf_fmode
        uint32_t gf_numsrc
        sockaddr_storage *gf_slist

    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)
    int IPPROTO_IP, IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_RAW

    # <net/if.h>
    enum:
        IFNAMSIZ
    int IFF_UP, IFF_MULTICAST

    struct nameindex "if_nameindex":
        unsigned int if_index
        char *if_name

    nameindex *if_nameindex()
    void if_freenameindex(nameindex *list)

    # <linux/filter.h>, <linux/errqueue.h>
    struct sock_filter:
        uint16_t code

    struct sock_fprog:
        unsigned short len
        sock_filter *filter

    struct sock_extended_err:
        uint32_t ee_errno
        uint8_t ee_origin
        uint8_t ee_type
        uint8_t ee_code
        uint32_t ee_info
        uint32_t ee_data

    # <poll.h>, <time.h>, <unistd.h>
    struct pollfd:
        int fd
        short events
        short revents

    struct timespec:
        long tv_sec
        long tv_nsec

    int POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL
    int close(int fd)

    # compat.h's own
    struct ipv4_address:
        char name[IFNAMSIZ]
        uint32_t address

    int interface_index "ipv4_interface_index"(int fd, const char *name)
    int interface_name "ipv4_interface_name"(int fd, int index, char *name)
    int interface_flags "ipv4_interface_flags"(int fd, const char *name)
    int addresses "ipv4_addresses"(int fd, ipv4_address **found)
    nameindex *interfaces_there "ipv4_interfaces_there"(int fd) nogil
    int waker_open "ipv4_waker_open"(int *ends)
    void waker_close "ipv4_waker_close"(int *ends)
    void waker_signal "ipv4_waker_signal"(int *ends)
    void waker_drain "ipv4_waker_drain"(int *ends)
    int edge_open "ipv4_edge_open"(int fd, int direction, int *ready)
    int meet_open "ipv4_meet_open"(const pollfd *fds, unsigned int count)
    int watch_open "ipv4_watch_open"(int fd, int direction, int waker)
    void watch_drain "ipv4_watch_drain"(int watch, int *waker)
    int poll_ns "ipv4_poll"(pollfd *fds, unsigned int count, int64_t ns)
    int setns_net "ipv4_setns_net"(int fd)
    int64_t monotonic_ns "ipv4_monotonic"()
    int64_t coarse_ns "ipv4_monotonic_coarse"()

    # numbers.h: the kernel's number of each option, -1 where this system has none
    int IP_TOS "OPT_IP_TOS"
    int IP_TTL "OPT_IP_TTL"
    int IP_HDRINCL "OPT_IP_HDRINCL"
    int IP_OPTIONS "OPT_IP_OPTIONS"
    int IP_ROUTER_ALERT "OPT_IP_ROUTER_ALERT"
    int IP_RECVOPTS "OPT_IP_RECVOPTS"
    int IP_RETOPTS "OPT_IP_RETOPTS"
    int IP_PKTINFO "OPT_IP_PKTINFO"
    int IP_MTU_DISCOVER "OPT_IP_MTU_DISCOVER"
    int IP_RECVERR "OPT_IP_RECVERR"
    int IP_RECVTTL "OPT_IP_RECVTTL"
    int IP_RECVTOS "OPT_IP_RECVTOS"
    int IP_MTU "OPT_IP_MTU"
    int IP_FREEBIND "OPT_IP_FREEBIND"
    int IP_TRANSPARENT "OPT_IP_TRANSPARENT"
    int IP_RECVORIGDSTADDR "OPT_IP_RECVORIGDSTADDR"
    int IP_MINTTL "OPT_IP_MINTTL"
    int IP_NODEFRAG "OPT_IP_NODEFRAG"
    int IP_BIND_ADDRESS_NO_PORT "OPT_IP_BIND_ADDRESS_NO_PORT"
    int IP_MULTICAST_IF "OPT_IP_MULTICAST_IF"
    int IP_MULTICAST_TTL "OPT_IP_MULTICAST_TTL"
    int IP_MULTICAST_LOOP "OPT_IP_MULTICAST_LOOP"
    int MCAST_JOIN_GROUP "OPT_MCAST_JOIN_GROUP"
    int MCAST_BLOCK_SOURCE "OPT_MCAST_BLOCK_SOURCE"
    int MCAST_UNBLOCK_SOURCE "OPT_MCAST_UNBLOCK_SOURCE"
    int MCAST_LEAVE_GROUP "OPT_MCAST_LEAVE_GROUP"
    int MCAST_JOIN_SOURCE_GROUP "OPT_MCAST_JOIN_SOURCE_GROUP"
    int MCAST_LEAVE_SOURCE_GROUP "OPT_MCAST_LEAVE_SOURCE_GROUP"
    int MCAST_MSFILTER "OPT_MCAST_MSFILTER"
    int IP_MULTICAST_ALL "OPT_IP_MULTICAST_ALL"
    int IP_UNICAST_IF "OPT_IP_UNICAST_IF"
    int IP_LOCAL_PORT_RANGE "OPT_IP_LOCAL_PORT_RANGE"
    int SO_ORIGINAL_DST "OPT_SO_ORIGINAL_DST"
    int SO_REUSEADDR "OPT_SO_REUSEADDR"
    int SO_BROADCAST "OPT_SO_BROADCAST"
    int SO_SNDBUF "OPT_SO_SNDBUF"
    int SO_RCVBUF "OPT_SO_RCVBUF"
    int SO_PRIORITY "OPT_SO_PRIORITY"
    int SO_REUSEPORT "OPT_SO_REUSEPORT"
    int SO_ATTACH_FILTER "OPT_SO_ATTACH_FILTER"
    int SO_GET_FILTER "OPT_SO_GET_FILTER"
    int SO_DETACH_FILTER "OPT_SO_DETACH_FILTER"
    int SO_SNDBUFFORCE "OPT_SO_SNDBUFFORCE"
    int SO_RCVBUFFORCE "OPT_SO_RCVBUFFORCE"
    int SO_TIMESTAMPNS "OPT_SO_TIMESTAMPNS"
    int SCM_TIMESTAMPNS "OPT_SCM_TIMESTAMPNS"
    int SO_MARK "OPT_SO_MARK"
    int SO_TIMESTAMPING "OPT_SO_TIMESTAMPING"
    int SCM_TIMESTAMPING "OPT_SCM_TIMESTAMPING"
    int SO_RXQ_OVFL "OPT_SO_RXQ_OVFL"
    int SO_LOCK_FILTER "OPT_SO_LOCK_FILTER"
    int SO_BUSY_POLL "OPT_SO_BUSY_POLL"
    int SO_MAX_PACING_RATE "OPT_SO_MAX_PACING_RATE"
    int SO_INCOMING_CPU "OPT_SO_INCOMING_CPU"
    int SO_ATTACH_REUSEPORT_CBPF "OPT_SO_ATTACH_REUSEPORT_CBPF"
    int SO_MEMINFO "OPT_SO_MEMINFO"
    int SO_BINDTOIFINDEX "OPT_SO_BINDTOIFINDEX"
    int UDP_SEGMENT "OPT_UDP_SEGMENT"
    int UDP_GRO "OPT_UDP_GRO"
    int ICMP_FILTER "OPT_ICMP_FILTER"
