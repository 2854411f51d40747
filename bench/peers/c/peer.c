/* The limit: each case as a plain loop of system calls. Reads "case count" lines, answers each with
 * "nanoseconds bytes", or "missing". Every message of a batch bears a payload of its own; after the
 * time was taken the last ones are verified byte by byte, and nothing may be left in the queue. */
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
#include <unistd.h>

enum { SIZE = 64, MAX_BATCH = 1024, SEGMENT = 1400, SEGMENTS = 46, PROTOCOL = 253 };

static int udp, raw = -1;
static struct sockaddr_in here;
static unsigned char payloads[MAX_BATCH][SIZE], data[MAX_BATCH][SIZE], in[65536], out[65536];
static volatile uint64_t sink; /* what is read must be read */

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

static void verify(const unsigned char *got, const unsigned char *sent, size_t n) {
  if (memcmp(got, sent, n)) {
    fputs("a wrong byte arrived\n", stderr);
    exit(1);
  }
}

static void nothing_left(int fd) {
  if (recv(fd, in, sizeof in, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
    fputs("a packet too many arrived\n", stderr);
    exit(1);
  }
}

static void set(int level, int name, int on) {
  if (setsockopt(udp, level, name, &on, sizeof on) < 0) die("setsockopt");
}

static void control(int on) {
  set(IPPROTO_IP, IP_RECVTTL, on);
  set(IPPROTO_IP, IP_PKTINFO, on);
}

/* TTL and interface, as a program that uses them would read them. */
static void look(struct msghdr *h) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
    if (c->cmsg_level != IPPROTO_IP) continue;
    int32_t value;
    if (c->cmsg_type == IP_TTL || c->cmsg_type == IP_PKTINFO) {
      memcpy(&value, CMSG_DATA(c), sizeof value);
      sink += (uint32_t)value;
    }
  }
}

static size_t pktinfo(unsigned char *control) {
  struct cmsghdr *c = (struct cmsghdr *)control;
  struct in_pktinfo info = {.ipi_ifindex = 1, .ipi_spec_dst = here.sin_addr};
  memset(control, 0, CMSG_SPACE(sizeof info));
  c->cmsg_len = CMSG_LEN(sizeof info);
  c->cmsg_level = IPPROTO_IP;
  c->cmsg_type = IP_PKTINFO;
  memcpy(CMSG_DATA(c), &info, sizeof info);
  return CMSG_SPACE(sizeof info);
}

static void fill(long n) {
  for (long i = 0; i < n; i++)
    if (sendto(udp, payloads[i], SIZE, 0, (struct sockaddr *)&here, sizeof here) != SIZE)
      die("sendto");
}

static uint64_t receive_one(int with_control) {
  struct sockaddr_in from;
  if (!with_control) {
    socklen_t size = sizeof from;
    ssize_t n = recvfrom(udp, in, sizeof in, MSG_DONTWAIT, (struct sockaddr *)&from, &size);
    if (n < 0) die("recvfrom");
    sink += from.sin_port;
    return (uint64_t)n;
  }
  unsigned char oob[256];
  struct iovec v = {in, sizeof in};
  struct msghdr h = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1,
                     .msg_control = oob, .msg_controllen = sizeof oob};
  ssize_t n = recvmsg(udp, &h, MSG_DONTWAIT);
  if (n < 0) die("recvmsg");
  sink += from.sin_port;
  look(&h);
  return (uint64_t)n;
}

static uint64_t pair(long n, int cm, uint64_t *bytes) {
  unsigned char oob[64];
  control(cm);
  size_t room = pktinfo(oob);
  uint64_t start = now();
  for (long i = 0; i < n; i++) {
    if (!cm) {
      if (sendto(udp, payloads[0], SIZE, MSG_DONTWAIT, (struct sockaddr *)&here, sizeof here) != SIZE)
        die("sendto");
    } else {
      struct iovec v = {payloads[0], SIZE};
      struct msghdr h = {.msg_name = &here, .msg_namelen = sizeof here, .msg_iov = &v,
                         .msg_iovlen = 1, .msg_control = oob, .msg_controllen = room};
      if (sendmsg(udp, &h, MSG_DONTWAIT) != SIZE) die("sendmsg");
    }
    *bytes += receive_one(cm);
  }
  uint64_t spent = now() - start;
  verify(in, payloads[0], SIZE);
  return spent;
}

static uint64_t receive(long n, int cm, uint64_t *bytes) {
  uint64_t spent = 0;
  control(cm);
  for (long done = 0; done < n; done += 128) {
    fill(128);
    uint64_t start = now();
    for (int i = 0; i < 128; i++) *bytes += receive_one(cm);
    spent += now() - start;
    verify(in, payloads[127], SIZE);
  }
  return spent;
}

static struct mmsghdr tx[MAX_BATCH], rx[MAX_BATCH];

static void batches(int count) {
  static struct iovec tv[MAX_BATCH], rv[MAX_BATCH];
  static struct sockaddr_in from[MAX_BATCH];
  static unsigned char told[64], oob[MAX_BATCH][64];
  size_t room = pktinfo(told);
  for (int i = 0; i < count; i++) {
    tv[i] = (struct iovec){payloads[i], SIZE};
    tx[i].msg_hdr = (struct msghdr){.msg_name = &here, .msg_namelen = sizeof here, .msg_iov = &tv[i],
                                    .msg_iovlen = 1, .msg_control = told, .msg_controllen = room};
    rv[i] = (struct iovec){data[i], SIZE};
    rx[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_iov = &rv[i], .msg_iovlen = 1,
                                    .msg_control = oob[i]};
  }
}

static int send_batch(int count) {
  int sent = 0;
  while (sent < count) {
    int k = sendmmsg(udp, tx + sent, count - sent, MSG_DONTWAIT);
    if (k < 0) die("sendmmsg");
    sent += k;
  }
  return sent;
}

static void receive_batch(int count, int read_all, uint64_t *bytes) {
  int got = 0;
  while (got < count) {
    for (int i = got; i < count; i++) {
      rx[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in);
      rx[i].msg_hdr.msg_controllen = 64;
    }
    int k = recvmmsg(udp, rx + got, count - got, MSG_DONTWAIT, NULL);
    if (k < 0) die("recvmmsg");
    for (int i = got; i < got + k; i++) {
      *bytes += rx[i].msg_len;
      if (read_all) {
        struct sockaddr_in *from = rx[i].msg_hdr.msg_name;
        sink += from->sin_addr.s_addr + from->sin_port;
        look(&rx[i].msg_hdr);
      }
    }
    got += k;
  }
}

static uint64_t batch_pair(long n, int count, uint64_t *bytes) {
  control(1);
  batches(count);
  uint64_t start = now();
  for (long done = 0; done < n; done += count) {
    /* The queue of a small receive buffer holds a few hundred: larger batches go in parts. */
    for (int at = 0; at < count; at += 128) {
      int part = count - at < 128 ? count - at : 128;
      send_batch(part);
      receive_batch(part, 1, bytes);
    }
  }
  uint64_t spent = now() - start;
  for (int i = 0; i < (count < 128 ? count : 128); i++) verify(data[i], payloads[i], SIZE);
  return spent;
}

static uint64_t batch_receive(long n, int count, int read_all, uint64_t *bytes) {
  uint64_t spent = 0;
  control(1);
  batches(count);
  for (long done = 0; done < n; done += count) {
    fill(count);
    uint64_t start = now();
    receive_batch(count, read_all, bytes);
    spent += now() - start;
    for (int i = 0; i < count; i++) verify(data[i], payloads[i], SIZE);
  }
  return spent;
}

static uint64_t raw_pair(long n, uint64_t *bytes) {
  unsigned char head[20] = {0x45, 0, 0, 84, 0, 0, 0, 0, 64, PROTOCOL};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = here.sin_addr};
  memcpy(head + 16, &to.sin_addr, 4);
  uint64_t start = now();
  for (long i = 0; i < n; i++) {
    struct iovec v[2] = {{head, sizeof head}, {payloads[0], SIZE}}, rv = {in, sizeof in};
    struct msghdr h = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = v, .msg_iovlen = 2};
    struct sockaddr_in from;
    if (sendmsg(raw, &h, MSG_DONTWAIT) != 84) die("raw sendmsg");
    struct msghdr r = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &rv, .msg_iovlen = 1};
    ssize_t got = recvmsg(raw, &r, MSG_DONTWAIT);
    if (got < 20) die("raw recvmsg");
    uint16_t total;
    memcpy(&total, in + 2, 2);
    sink += in[8] + ntohs(total) + in[9];
    *bytes += (uint64_t)got - (in[0] & 15) * 4;
  }
  uint64_t spent = now() - start;
  verify(in + 20, payloads[0], SIZE);
  nothing_left(raw);
  return spent;
}

static uint64_t segments(long n, uint64_t *bytes) {
  unsigned char oob[64];
  struct cmsghdr *c = (struct cmsghdr *)oob;
  uint16_t size = SEGMENT;
  memset(oob, 0, sizeof oob);
  c->cmsg_len = CMSG_LEN(sizeof size);
  c->cmsg_level = SOL_UDP;
  c->cmsg_type = UDP_SEGMENT;
  memcpy(CMSG_DATA(c), &size, sizeof size);
  control(0);
  set(SOL_UDP, UDP_GRO, 1);
  size_t last = 0;
  uint64_t start = now();
  for (long done = 0; done < n; done += SEGMENTS) {
    struct iovec v = {out, SEGMENT * SEGMENTS};
    struct msghdr h = {.msg_name = &here, .msg_namelen = sizeof here, .msg_iov = &v, .msg_iovlen = 1,
                       .msg_control = oob, .msg_controllen = CMSG_SPACE(sizeof size)};
    if (sendmsg(udp, &h, MSG_DONTWAIT) != SEGMENT * SEGMENTS) die("segments");
    for (int got = 0; got < SEGMENT * SEGMENTS;) {
      struct sockaddr_in from;
      unsigned char back[256];
      struct iovec rv = {in, sizeof in};
      struct msghdr r = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &rv,
                         .msg_iovlen = 1, .msg_control = back, .msg_controllen = sizeof back};
      ssize_t k = recvmsg(udp, &r, MSG_DONTWAIT);
      if (k < 0) die("gro");
      got += (int)k;
      last = (size_t)k;
      *bytes += (uint64_t)k;
    }
  }
  uint64_t spent = now() - start;
  verify(in, out + SEGMENT * SEGMENTS - last, last);
  set(SOL_UDP, UDP_GRO, 0);
  return spent;
}

/* RFC 1071 as a good C loop writes it: 32-bit words into 64 bits, which compilers vectorise. */
__attribute__((noinline)) static uint16_t checksum(const unsigned char *data, size_t n) {
  uint64_t total = 0;
  for (size_t i = 0; i < n / 4; i++) {
    uint32_t word;
    memcpy(&word, data + 4 * i, 4);
    total += word;
  }
  for (size_t i = n & ~(size_t)3; i < n; i += 2) {
    uint16_t half = 0;
    memcpy(&half, data + i, n - i < 2 ? 1 : 2);
    total += half;
  }
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return (uint16_t)~total;
}

static uint64_t checksums(long n, size_t size, uint64_t *bytes) {
  uint64_t start = now();
  for (long i = 0; i < n; i++) sink += checksum(out, size);
  uint64_t spent = now() - start;
  *bytes = (uint64_t)n * size;
  return spent;
}

int main(void) {
  char name[64];
  long n;
  socklen_t size = sizeof here;
  for (int i = 0; i < (int)sizeof out; i++) out[i] = (unsigned char)(i % SEGMENT % SIZE);
  for (int j = 0; j < MAX_BATCH; j++)
    for (int i = 0; i < SIZE; i++) payloads[j][i] = (unsigned char)(i + j);
  udp = socket(AF_INET, SOCK_DGRAM, 0);
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(udp, (struct sockaddr *)&here, sizeof here) < 0) die("bind");
  getsockname(udp, (struct sockaddr *)&here, &size);
  raw = socket(AF_INET, SOCK_RAW, PROTOCOL);
  if (raw >= 0) {
    int on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = here.sin_addr};
    setsockopt(raw, IPPROTO_IP, IP_HDRINCL, &on, sizeof on);
    if (bind(raw, (struct sockaddr *)&any, sizeof any) < 0) die("bind raw");
  }
  printf("ready %d\n", ntohs(here.sin_port));
  fflush(stdout);
  while (scanf("%63s %ld", name, &n) == 2) {
    uint64_t ns = 0, bytes = 0;
    int k;
    if (!strcmp(name, "pair")) ns = pair(n, 0, &bytes);
    else if (!strcmp(name, "pair_cm")) ns = pair(n, 1, &bytes);
    else if (!strcmp(name, "receive")) ns = receive(n, 0, &bytes);
    else if (!strcmp(name, "receive_cm")) ns = receive(n, 1, &bytes);
    else if (sscanf(name, "batch_%d", &k) == 1) ns = batch_pair(n, k, &bytes);
    else if (!strcmp(name, "half_64")) ns = batch_receive(n, 64, 1, &bytes);
    else if (!strcmp(name, "half_64_untouched")) ns = batch_receive(n, 64, 0, &bytes);
    else if (!strcmp(name, "raw") && raw >= 0) ns = raw_pair(n, &bytes);
    else if (!strcmp(name, "segments")) ns = segments(n, &bytes);
    else if (sscanf(name, "checksum_%d", &k) == 1) ns = checksums(n, (size_t)k, &bytes);
    else {
      puts("missing");
      fflush(stdout);
      continue;
    }
    nothing_left(udp);
    printf("%llu %llu\n", (unsigned long long)ns, (unsigned long long)bytes);
    fflush(stdout);
  }
  return 0;
}
