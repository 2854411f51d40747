/* threads COUNT SIZE SECONDS: packets a second of COUNT threads, each of which sends SIZE datagrams
 * of 64 bytes to a socket of its own and receives them, by one system call each way; of single ones
 * by sendto and recvfrom. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BYTES = 64, MOST = 1024 };
static int size;
static double seconds;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *work(void *moved) {
  static __thread char data[MOST][BYTES];
  static __thread struct iovec vectors[MOST];
  static __thread struct mmsghdr out[MOST], in[MOST];
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof here;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  long *count = moved;
  double end = now() + seconds;
  if (bind(fd, (struct sockaddr *)&here, length) || getsockname(fd, (struct sockaddr *)&here, &length))
    exit(1);
  for (int i = 0; i < size; i++) {
    vectors[i] = (struct iovec){data[i], BYTES};
    in[i].msg_hdr = out[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    out[i].msg_hdr.msg_name = &here;
    out[i].msg_hdr.msg_namelen = sizeof here;
  }
  while (now() < end)
    for (int turn = 0; turn < 16; turn++) {
      int got = 1;
      if (size == 1) {
        if (sendto(fd, data, BYTES, 0, (struct sockaddr *)&here, sizeof here) != BYTES ||
            recvfrom(fd, data, BYTES, 0, NULL, NULL) != BYTES)
          exit(1);
      } else if (sendmmsg(fd, out, size, 0) != size || (got = recvmmsg(fd, in, size, 0, NULL)) < 1) {
        exit(1);
      }
      *count += got;
    }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[16];
  long moved[16 * 16] = {0}, all = 0; /* a line of the cache each */
  int count = argc == 4 ? atoi(argv[1]) : 0;
  if (count < 1 || count > 16 || (size = atoi(argv[2])) < 1 || size > MOST) return 2;
  seconds = atof(argv[3]);
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, work, &moved[16 * i]);
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < count; i++) all += moved[16 * i];
  printf("%.0f\n", all / seconds);
  return 0;
}
