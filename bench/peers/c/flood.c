/* A flood of 64-byte datagrams, fed faster than anybody takes them.
 *
 *   flood feed PORT SECONDS    sends by segmentation (udp(7), UDP_SEGMENT), 64 datagrams a call
 *   flood receive COUNT        prints its port, takes COUNT by recvmmsg(2), then prints the CPU time
 *                              in nanoseconds, the datagrams and the bytes that it covers
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SIZE = 64, BATCH = 64 };

static volatile uint64_t sink;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t clock_ns(clockid_t which) {
  struct timespec ts;
  clock_gettime(which, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int feed(int fd, int port, int seconds) {
  unsigned char data[BATCH * SIZE];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int size = SIZE;
  for (int i = 0; i < BATCH * SIZE; i++) data[i] = (unsigned char)(i % SIZE);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof size) < 0) die("UDP_SEGMENT");
  uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)seconds * 1000000000u;
  while (clock_ns(CLOCK_MONOTONIC) < end)
    /* The receiver has gone when its port answers with an error. */
    if (send(fd, data, sizeof data, 0) < 0) return errno != ECONNREFUSED;
  return 0;
}

static int receive(int fd, long count) {
  static unsigned char data[BATCH][SIZE + 1];
  static struct sockaddr_in from[BATCH];
  static struct iovec v[BATCH];
  static struct mmsghdr m[BATCH];
  uint64_t start = 0;
  long taken = 0, bytes = 0;
  for (int i = 0; i < BATCH; i++) {
    v[i] = (struct iovec){data[i], sizeof data[i]};
    m[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_iov = &v[i], .msg_iovlen = 1};
  }
  while (taken < count) {
    for (int i = 0; i < BATCH; i++) m[i].msg_hdr.msg_namelen = sizeof from[i];
    int n = recvmmsg(fd, m, BATCH, MSG_WAITFORONE, NULL);
    if (n < 0) die("recvmmsg");
    if (!start) {
      start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
      continue;
    }
    for (int i = 0; i < n; i++) {
      bytes += m[i].msg_len;
      sink += from[i].sin_addr.s_addr + from[i].sin_port;
    }
    taken += n;
  }
  uint64_t spent = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start;
  for (int i = 0; i < SIZE; i++)
    if (data[0][i] != i) {
      fprintf(stderr, "wrong byte at %d\n", i);
      return 1;
    }
  printf("%llu %ld %ld\n", (unsigned long long)spent, taken, bytes);
  return 0;
}

int main(int argc, char **argv) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) die("socket");
  if (argc == 4 && !strcmp(argv[1], "feed")) return feed(fd, atoi(argv[2]), atoi(argv[3]));
  if (argc == 3 && !strcmp(argv[1], "receive")) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    if (bind(fd, (struct sockaddr *)&here, size) < 0) die("bind");
    getsockname(fd, (struct sockaddr *)&here, &size);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    return receive(fd, atol(argv[2]));
  }
  fprintf(stderr, "usage: flood feed PORT SECONDS | flood receive COUNT\n");
  return 2;
}
