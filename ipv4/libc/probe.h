/* Questions about a route that take a socket of their own, beside the one that sends: nothing is
 * sent, and no error comes to the queue of the other. */
#ifndef IPV4_PROBE_H
#define IPV4_PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __linux__

enum {
  IPV4_SO_NETNS_COOKIE = 71, /* Linux 5.14 */
  IPV4_SIOCGSKNS = 0x894C,   /* Linux 4.10 */
  IPV4_IP_MTU_DISCOVER = 10,
  IPV4_IP_MTU = 14
};

/* Opens a UDP socket in the network namespace that *where stands for, and leaves it there. */
static void *ipv4_enter_and_open(void *where) {
  int *fd = (int *)where;
  *fd = setns(*fd, CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
  return NULL;
}

/* A socket of the network namespace of fd, which is not the caller's: a thread goes there, and
 * ends. It takes the capabilities that opening fd there took. */
static int ipv4_open_elsewhere(int fd) {
  int there = ioctl(fd, IPV4_SIOCGSKNS), opened = there;
  pthread_t thread;
  if (there < 0) return -1;
  if (pthread_create(&thread, NULL, ipv4_enter_and_open, &opened) == 0)
    pthread_join(thread, NULL);
  else
    opened = -1;
  close(there);
  return opened;
}

/* A UDP socket in the network namespace of fd; -1 when there is none to be had. */
static int ipv4_open_beside(int fd) {
  uint64_t theirs = 0, ours = 0;
  socklen_t size = sizeof theirs;
  int on = 1, beside = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (beside < 0) return -1;
  if (getsockopt(fd, SOL_SOCKET, IPV4_SO_NETNS_COOKIE, &theirs, &size) == 0 &&
      getsockopt(beside, SOL_SOCKET, IPV4_SO_NETNS_COOKIE, &ours, &size) == 0 && theirs != ours) {
    close(beside);
    beside = ipv4_open_elsewhere(fd);
    if (beside < 0) return -1;
  }
  (void)setsockopt(beside, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  return beside;
}

/* Whether a UDP payload of this size cannot go to name: with MSG_MORE the kernel looks at it and
 * waits for more, which closing throws away. mode is that of IP_MTU_DISCOVER. Where nobody can be
 * asked the answer is yes. */
static int ipv4_is_too_big(int fd, const struct sockaddr_in *name, size_t size, int mode) {
  static const char zeroes[65536];
  struct sockaddr_in to = *name;
  int refused, beside;
  if (size > 65507) return 1;
  beside = ipv4_open_beside(fd);
  if (beside < 0) return 1;
  if (to.sin_port == 0) to.sin_port = htons(9);
  (void)setsockopt(beside, IPPROTO_IP, IPV4_IP_MTU_DISCOVER, &mode, sizeof mode);
  refused = sendto(beside, zeroes, size, MSG_MORE | MSG_DONTWAIT, (const struct sockaddr *)&to,
                   sizeof to) < 0 && errno == EMSGSIZE;
  close(beside);
  return refused;
}

/* MTU of the path to name, as far as it is known; 0 when nobody can be asked. */
static int ipv4_path_mtu(int fd, const struct sockaddr_in *name) {
  struct sockaddr_in to = *name;
  int mtu = 0, beside = ipv4_open_beside(fd);
  socklen_t size = sizeof mtu;
  if (beside < 0) return 0;
  if (to.sin_port == 0) to.sin_port = htons(9);
  if (connect(beside, (const struct sockaddr *)&to, sizeof to) < 0 ||
      getsockopt(beside, IPPROTO_IP, IPV4_IP_MTU, &mtu, &size) < 0)
    mtu = 0;
  close(beside);
  return mtu;
}

#else

static int ipv4_is_too_big(int fd, const struct sockaddr_in *name, size_t size, int mode) {
  (void)fd, (void)name, (void)size, (void)mode;
  return 1;
}

static int ipv4_path_mtu(int fd, const struct sockaddr_in *name) {
  (void)fd, (void)name;
  return 0;
}

#endif
#endif
