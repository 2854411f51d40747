/* What this system lacks, said once.
 *
 * Every socket option has a name with OPT_ before it (numbers.h), whose value is -1 where the system
 * has none; the door to setsockopt (engine/sockopt.pyx) turns that into NotImplementedError. Likewise the calls: where the build found no recvmmsg, sendmmsg,
 * eventfd or epoll (config.h), the functions below do the same with what POSIX has. Nothing above
 * this header asks which system it is on. */
#ifndef IPV4_COMPAT_H
#define IPV4_COMPAT_H

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#if !HAVE_IFREQ_IFINDEX
#include <ifaddrs.h>
#endif
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "numbers.h"

#if HAVE_LINUX_FILTER_H
#include <linux/filter.h>
#endif
#if HAVE_LINUX_ERRQUEUE_H
#include <linux/errqueue.h>
#endif
#if HAVE_NETINET_UDP_H
#include <netinet/udp.h>
#endif
#if HAVE_EVENTFD
#include <sys/eventfd.h>
#endif
#if HAVE_EPOLL_CREATE1
#include <sys/epoll.h>
#endif
#if HAVE_SETNS
#include <sched.h>
#endif

#ifndef SOL_UDP
#define SOL_UDP IPPROTO_UDP
#endif
#ifndef SOL_RAW
#define SOL_RAW 255
#endif
#ifndef MSG_ERRQUEUE
#define MSG_ERRQUEUE 0
#endif
#ifndef ENONET
#define ENONET (-1) /* Linux's word for a host that is isolated (ICMP 3/8) */
#endif

#if !HAVE_IN_PKTINFO
struct in_pktinfo {
  int ipi_ifindex;
  struct in_addr ipi_spec_dst, ipi_addr;
};
#endif
#if !HAVE_IP_MREQN
struct ip_mreqn {
  struct in_addr imr_multiaddr, imr_address;
  int imr_ifindex;
};
#endif
#if !HAVE_GROUP_SOURCE_REQ
struct group_req {
  uint32_t gr_interface;
  struct sockaddr_storage gr_group;
};
struct group_source_req {
  uint32_t gsr_interface;
  struct sockaddr_storage gsr_group, gsr_source;
};
#endif
#if !HAVE_GROUP_FILTER
struct group_filter {
  uint32_t gf_interface;
  struct sockaddr_storage gf_group;
  uint32_t gf_fmode, gf_numsrc;
  struct sockaddr_storage gf_slist[1];
};
#endif
#if !HAVE_LINUX_FILTER_H
struct sock_filter {
  uint16_t code;
  uint8_t jt, jf;
  uint32_t k;
};
struct sock_fprog {
  unsigned short len;
  struct sock_filter *filter;
};
#endif
#if !HAVE_LINUX_ERRQUEUE_H
struct sock_extended_err {
  uint32_t ee_errno;
  uint8_t ee_origin, ee_type, ee_code, ee_pad;
  uint32_t ee_info, ee_data;
};
#endif

/* Interfaces. Linux is asked through the socket, whose network namespace may be another than the
 * thread's; systems without these requests have no such namespaces. */
struct ipv4_address {
  char name[IFNAMSIZ]; /* of its interface, or an alias label of it ("eth0:1") */
  uint32_t address;
};

/* Index of the interface of that name, -1 with ENODEV where there is none. */
static inline int ipv4_interface_index(int fd, const char *name) {
#if HAVE_IFREQ_IFINDEX
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, name, strnlen(name, sizeof request.ifr_name - 1));
  return ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -1 : request.ifr_ifindex;
#else
  unsigned int index = if_nametoindex(name);
  (void)fd;
  if (index != 0 && index <= INT_MAX) return (int)index;
  errno = ENODEV; /* POSIX names no errno, and systems differ */
  return -1;
#endif
}

/* Name of the interface of that index; -1 with ENODEV where there is none. */
static inline int ipv4_interface_name(int fd, int index, char name[IFNAMSIZ]) {
#if HAVE_IFREQ_IFINDEX
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_ifindex = index;
  if (ioctl(fd, SIOCGIFNAME, &request) < 0) return -1;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  return 0;
#else
  (void)fd;
  if (if_indextoname((unsigned int)index, name) != NULL) return 0;
  errno = ENODEV;
  return -1;
#endif
}

/* Flags (IFF_UP, ...) of the interface of that name; -1 where there is none. */
static inline int ipv4_interface_flags(int fd, const char *name) {
  int flags = -1;
#if HAVE_IFREQ_IFINDEX
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  if (ioctl(fd, SIOCGIFFLAGS, &request) >= 0) flags = (unsigned short)request.ifr_flags;
#else
  struct ifaddrs *list, *entry;
  (void)fd;
  if (getifaddrs(&list) < 0) return -1;
  for (entry = list; entry != NULL && flags < 0; entry = entry->ifa_next)
    if (strcmp(entry->ifa_name, name) == 0) flags = (int)(entry->ifa_flags & 0xffff);
  freeifaddrs(list);
#endif
  return flags;
}

/* The IPv4 addresses of interfaces; how many, or -1. The caller owes free(*found). */
static inline int ipv4_addresses(int fd, struct ipv4_address **found) {
  int count = 0;
#if HAVE_IFREQ_IFINDEX
  struct ifconf list;
  *found = NULL;
  list.ifc_req = NULL;
  for (int room = 64;; room *= 2) { /* the kernel fills what fits and says no more */
    int size = room * (int)sizeof(struct ifreq);
    char *entries = room > (1 << 20) ? NULL : realloc(list.ifc_req, (size_t)size);
    if (entries == NULL) {
      free(list.ifc_req);
      errno = ENOMEM;
      return -1;
    }
    list.ifc_req = (struct ifreq *)entries;
    list.ifc_len = size;
    if (ioctl(fd, SIOCGIFCONF, &list) < 0) {
      int saved = errno;
      free(list.ifc_req);
      errno = saved;
      return -1;
    }
    if (list.ifc_len < size) break;
  }
  count = list.ifc_len / (int)sizeof(struct ifreq);
  *found = calloc((size_t)count + 1, sizeof **found);
  for (int i = 0; *found != NULL && i < count; i++) {
    memcpy((*found)[i].name, list.ifc_req[i].ifr_name, IFNAMSIZ);
    (*found)[i].address = ((struct sockaddr_in *)&list.ifc_req[i].ifr_addr)->sin_addr.s_addr;
  }
  free(list.ifc_req);
#else
  struct ifaddrs *list, *entry;
  (void)fd;
  *found = NULL;
  if (getifaddrs(&list) < 0) return -1;
  for (entry = list; entry != NULL; entry = entry->ifa_next) count++;
  *found = calloc((size_t)count + 1, sizeof **found);
  count = 0;
  for (entry = list; *found != NULL && entry != NULL; entry = entry->ifa_next) {
    if (entry->ifa_addr == NULL || entry->ifa_addr->sa_family != AF_INET) continue;
    strncpy((*found)[count].name, entry->ifa_name, IFNAMSIZ - 1);
    (*found)[count++].address = ((struct sockaddr_in *)entry->ifa_addr)->sin_addr.s_addr;
  }
  freeifaddrs(list);
#endif
  if (*found != NULL) return count;
  errno = ENOMEM;
  return -1;
}

#if HAVE_SETNS
#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C /* <linux/sockios.h>, Linux 4.10; it and glibc's headers disagree */
#endif
struct ipv4_listing {
  int netns;
  struct if_nameindex *found;
};

static inline void *ipv4_list_there(void *listing) {
  struct ipv4_listing *mine = listing;
  if (setns(mine->netns, CLONE_NEWNET) == 0) mine->found = if_nameindex();
  return NULL;
}
#endif

/* All interfaces of the socket's network namespace, with or without addresses; NULL if the process
 * may not look. No request of a socket lists them, so a thread of its own goes there: this one has
 * to stay where it is. The caller owes if_freenameindex(). */
static inline struct if_nameindex *ipv4_interfaces_there(int fd) {
#if HAVE_SETNS
  struct ipv4_listing listing = {ioctl(fd, SIOCGSKNS), NULL};
  sigset_t all, before;
  pthread_t thread;
  if (listing.netns < 0) return NULL;
  sigfillset(&all); /* signals are for the program's own threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (pthread_create(&thread, NULL, ipv4_list_there, &listing) == 0) pthread_join(thread, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(listing.netns);
  return listing.found;
#else
  (void)fd;
  return if_nameindex();
#endif
}

/* Batches: one system call where there is one for it, else the first message alone.
 *
 * musl gives msghdr and cmsghdr the types of POSIX, narrower than the kernel's, and padding beside
 * them. Its sendmsg, recvmsg and recvmmsg clear the padding before the kernel sees it, so nothing
 * here has to. For that its sendmsg copies control data, and says ENOMEM beyond some 1000 bytes;
 * and its sendmmsg is a loop over sendmsg: as right, but a system call each. */
#if HAVE_MMSGHDR
typedef struct mmsghdr ipv4_mmsghdr;
#else
typedef struct {
  struct msghdr msg_hdr;
  unsigned int msg_len;
} ipv4_mmsghdr;
#endif

static inline int ipv4_recv_one(int fd, ipv4_mmsghdr *message, int flags) {
  ssize_t n = recvmsg(fd, &message->msg_hdr, flags);
  if (n < 0) return -1;
  message->msg_len = (unsigned int)n;
  return 1;
}

static inline int ipv4_send_one(int fd, ipv4_mmsghdr *message, int flags) {
  ssize_t n = sendmsg(fd, &message->msg_hdr, flags);
  if (n < 0) return -1;
  message->msg_len = (unsigned int)n;
  return 1;
}

static inline int ipv4_recvmmsg(int fd, ipv4_mmsghdr *messages, unsigned int count, int flags) {
#if HAVE_RECVMMSG
  /* never the timeout argument: recvmmsg(2) BUGS */
  return recvmmsg(fd, messages, count, flags, NULL);
#else
  (void)count;
  return ipv4_recv_one(fd, messages, flags);
#endif
}

static inline int ipv4_sendmmsg(int fd, ipv4_mmsghdr *messages, unsigned int count, int flags) {
#if HAVE_SENDMMSG
  return sendmmsg(fd, messages, count, flags);
#else
  (void)count;
  return ipv4_send_one(fd, messages, flags);
#endif
}

/* Wakers: what one thread writes to end another's poll. ends[0] is polled, ends[1] written. */
static inline int ipv4_waker_open(int ends[2]) {
#if HAVE_EVENTFD
  ends[0] = ends[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return ends[0] < 0 ? -1 : 0;
#else
  if (pipe(ends) < 0) return -1;
  for (int i = 0; i < 2; i++) {
    fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    fcntl(ends[i], F_SETFL, O_NONBLOCK);
  }
  return 0;
#endif
}

static inline void ipv4_waker_close(int ends[2]) {
  close(ends[0]);
  if (ends[1] != ends[0]) close(ends[1]);
  ends[0] = ends[1] = -1;
}

static inline void ipv4_waker_signal(int ends[2]) {
  uint64_t one = 1; /* a full pipe or counter is as good as a signal: the poll ends either way */
  ssize_t n = write(ends[1], &one, sizeof one);
  (void)n;
}

static inline void ipv4_waker_drain(int ends[2]) {
  uint64_t count[8];
  while (read(ends[0], count, sizeof count) == (ssize_t)sizeof count)
    ;
}

/* What a call waits for; wait.pxd has the same numbers. */
enum { IPV4_READ, IPV4_WRITE, IPV4_ERRORS };

/* A descriptor that becomes readable when something NEW happens to fd, though an old condition
 * (POLLERR for an unread error queue) persists; -1 with ENOSYS where there is none. *ready says
 * whether what was asked for is there already, or may be. */
static inline int ipv4_edge_open(int fd, int direction, int *ready) {
  *ready = 0;
#if HAVE_EPOLL_CREATE1
  struct epoll_event event, seen;
  int ep = epoll_create1(EPOLL_CLOEXEC);
  if (ep < 0) return -1;
  memset(&event, 0, sizeof event);
  event.events = EPOLLET; /* errors come unasked */
  if (direction == IPV4_READ) event.events |= EPOLLIN;
  if (direction == IPV4_WRITE) event.events |= EPOLLOUT;
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) < 0) {
    int saved = errno;
    close(ep);
    errno = saved;
    return -1;
  }
  if (epoll_wait(ep, &seen, 1, 0) == 1)
    *ready = direction == IPV4_ERRORS || (seen.events & (EPOLLIN | EPOLLOUT | EPOLLHUP)) != 0;
  return ep;
#else
  (void)fd;
  (void)direction;
  errno = ENOSYS;
  return -1;
#endif
}

/* A descriptor that is readable while poll(2) of these would return at once; -1 where there is none.
 * For event loops that wait for one descriptor. */
static inline int ipv4_meet_open(const struct pollfd *fds, unsigned int count) {
#if HAVE_EPOLL_CREATE1
  struct epoll_event event;
  unsigned int i;
  int ep = epoll_create1(EPOLL_CLOEXEC);
  if (ep < 0) return -1;
  memset(&event, 0, sizeof event);
  for (i = 0; i < count; i++) {
    if (fds[i].fd < 0) continue;
    event.events = 0; /* errors come unasked */
    if (fds[i].events & POLLIN) event.events |= EPOLLIN;
    if (fds[i].events & POLLOUT) event.events |= EPOLLOUT;
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i].fd, &event) < 0) {
      int saved = errno;
      close(ep);
      errno = saved;
      return -1;
    }
  }
  return ep;
#else
  (void)fds;
  (void)count;
  errno = ENOSYS;
  return -1;
#endif
}

/* What an event loop is given to watch in place of the socket, whose number may become somebody
 * else's: an epoll descriptor that tells of what is new on fd and of signals to the waker. Where
 * there is no epoll, another descriptor of the socket; the loop then watches the waker besides. */
static inline int ipv4_watch_open(int fd, int direction, int waker) {
#if HAVE_EPOLL_CREATE1
  struct epoll_event event;
  int saved, ep = epoll_create1(EPOLL_CLOEXEC);
  if (ep < 0) return -1;
  memset(&event, 0, sizeof event);
  event.events = EPOLLET; /* errors come unasked */
  if (direction == IPV4_READ) event.events |= EPOLLIN;
  if (direction == IPV4_WRITE) event.events |= EPOLLOUT;
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == 0) {
    event.events = EPOLLIN | EPOLLET; /* so that it need not be read */
    if (epoll_ctl(ep, EPOLL_CTL_ADD, waker, &event) == 0) return ep;
  }
  saved = errno;
  close(ep);
  errno = saved;
  return -1;
#else
  (void)direction;
  (void)waker;
  return fcntl(fd, F_DUPFD_CLOEXEC, 0);
#endif
}

/* Takes what a watch has told, so that it tells only what comes from now on. */
static inline void ipv4_watch_drain(int watch, int waker[2]) {
#if HAVE_EPOLL_CREATE1
  struct epoll_event events[2];
  (void)waker;
  (void)epoll_wait(watch, events, 2, 0);
#else
  (void)watch;
  ipv4_waker_drain(waker);
#endif
}

/* poll(2) that takes nanoseconds; ns < 0 waits for ever. */
static inline int ipv4_poll(struct pollfd *fds, unsigned int count, int64_t ns) {
#if HAVE_PPOLL
  struct timespec ts;
  if (ns >= 0) {
    ts.tv_sec = (time_t)(ns / 1000000000);
    ts.tv_nsec = (long)(ns % 1000000000);
  }
  return ppoll(fds, count, ns < 0 ? NULL : &ts, NULL);
#else
  int64_t ms = ns < 0 ? -1 : (ns + 999999) / 1000000;
  return poll(fds, count, ms > INT_MAX ? INT_MAX : (int)ms);
#endif
}

/* Moves the calling thread into the network namespace that fd stands for. */
static inline int ipv4_setns_net(int fd) {
#if HAVE_SETNS
  return setns(fd, CLONE_NEWNET);
#else
  (void)fd;
  errno = ENOSYS;
  return -1;
#endif
}

/* A cheaper clock that lags behind by a tick, where there is one. */
static inline int64_t ipv4_monotonic_coarse(void) {
  struct timespec ts;
#ifdef CLOCK_MONOTONIC_COARSE
  clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
#else
  clock_gettime(CLOCK_MONOTONIC, &ts);
#endif
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t ipv4_monotonic(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#endif
