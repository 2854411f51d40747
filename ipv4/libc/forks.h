/* Which threads still run in this process.
 *
 * fork(2) copies the memory of all threads and continues one of them. What the others noted (a
 * call that waits, a message in flight) is void in the child. The handler runs inside of fork
 * itself, before any of Python's own, so that even these may use a conn. */
#ifndef IPV4_FORKS_H
#define IPV4_FORKS_H

#include <pthread.h>
#include <stdint.h>

/* How deep a child's child can be and still have a call of its first ancestor's: a ring. */
#define IPV4_FORKS_KEPT 64

typedef struct {
  unsigned int generation; /* forks between the first process and this one */
  uintptr_t forker[IPV4_FORKS_KEPT]; /* the thread that made each */
} ipv4_forks;

static ipv4_forks ipv4_forks_here;

static inline uintptr_t ipv4_this_thread(void) { return (uintptr_t)pthread_self(); }

static void ipv4_forked(void) {
  unsigned int now = ++ipv4_forks_here.generation;
  ipv4_forks_here.forker[now % IPV4_FORKS_KEPT] = ipv4_this_thread();
}

static inline int ipv4_watch_forks(void) { return pthread_atfork(NULL, NULL, ipv4_forked); }

/* Whether a call that thread began in that generation goes on in this process. */
static inline int ipv4_survives(unsigned int generation, uintptr_t thread) {
  unsigned int now = ipv4_forks_here.generation;
  if (now - generation >= IPV4_FORKS_KEPT) return 0;
  while (generation != now)
    if (ipv4_forks_here.forker[++generation % IPV4_FORKS_KEPT] != thread) return 0;
  return 1;
}

#endif
