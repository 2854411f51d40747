/* steps PID CALL TIMES: how many user-space instructions a process executes from one execution of
 * system call number CALL to the next, the mean over TIMES of them.
 *
 * The process is made to step one instruction at a time (ptrace(2)), which is slow but counts
 * exactly, also where a virtual machine hides the hardware's counters. The thread that used most
 * CPU time is counted; the others stand still meanwhile. x86-64 only. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifndef __x86_64__
int main(void) {
  fputs("instructions are counted on x86-64 only\n", stderr);
  return 3;
}
#else

enum { THREADS = 128, SECONDS = 15 };

/* User and system time in clock ticks: the 14th and 15th field of stat, after the name in brackets
 * (proc_pid_stat(5)). */
static unsigned long used(pid_t process, pid_t thread) {
  char path[80], line[1024] = "";
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  size_t n = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  while (n && line[n] != ')') n--;
  sscanf(line + n, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  return user + system;
}

static volatile sig_atomic_t late;

static void expired(int number) {
  (void)number;
  late = 1;
}

static int stop(pid_t thread) {
  int status;
  if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0) return -1;
  if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0) return -1;
  return waitpid(thread, &status, __WALL) < 0 ? -1 : 0;
}

static long peek(pid_t thread, size_t offset) {
  return ptrace(PTRACE_PEEKUSER, thread, (void *)offset, NULL);
}

/* Whether the next instruction is `syscall` (0f 05) for this call. */
static int about_to(pid_t thread, long call) {
  long at = peek(thread, offsetof(struct user_regs_struct, rip));
  errno = 0;
  long code = ptrace(PTRACE_PEEKTEXT, thread, (void *)at, NULL);
  return !errno && (code & 0xffff) == 0x050f
         && peek(thread, offsetof(struct user_regs_struct, rax)) == call;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fputs("usage: steps PID CALL TIMES\n", stderr);
    return 2;
  }
  pid_t process = atoi(argv[1]), threads[THREADS], chosen = 0;
  long call = atol(argv[2]), times = atol(argv[3]), seen = -1;
  int count = 0, status;
  unsigned long most = 0;
  uint64_t steps = 0;
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/task", process);
  DIR *folder = opendir(path);
  if (!folder) {
    perror(path);
    return 1;
  }
  for (struct dirent *entry; count < THREADS && (entry = readdir(folder));) {
    pid_t thread = atoi(entry->d_name);
    if (!thread) continue;
    unsigned long ticks = used(process, thread);
    if (!chosen || ticks > most) chosen = thread, most = ticks;
    threads[count++] = thread;
  }
  closedir(folder);
  for (int i = 0; i < count; i++)
    if (stop(threads[i]) < 0) {
      perror("ptrace");
      return 1;
    }
  /* A thread that sleeps in a system call ends no step: the alarm interrupts the wait for it. */
  sigaction(SIGALRM, &(struct sigaction){.sa_handler = expired}, NULL);
  alarm(SECONDS);
  while (!late) {
    if (about_to(chosen, call)) seen++;
    if (seen == times) break;
    if (seen >= 0) steps++;
    if (ptrace(PTRACE_SINGLESTEP, chosen, NULL, NULL) < 0) break;
    if (waitpid(chosen, &status, __WALL) < 0) break;
    if (!WIFSTOPPED(status)) break;
  }
  for (int i = 0; i < count; i++) ptrace(PTRACE_DETACH, threads[i], NULL, NULL);
  if (seen < times) {
    fprintf(stderr, "system call %ld came %ld times in %d s\n", call, seen + 1, SECONDS);
    return 1;
  }
  printf("%.1f\n", (double)steps / (double)times);
  return 0;
}
#endif
