// Preloaded into a program of ours: the thread that watches time slices (lua/slice.h), which is known by the name that
// it gives itself, sleeps until the program ends. So what it costs can be measured on one and the same binary.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

typedef int ClockWait(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);

static __thread int is_monitor;

int pthread_setname_np(pthread_t thread, const char *name) {
  is_monitor = strcmp(name, "evlua-slices") == 0;
  int (*next)(pthread_t, const char *) = (int (*)(pthread_t, const char *))dlsym(RTLD_NEXT, "pthread_setname_np");
  return is_monitor ? 0 : next(thread, name);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
  if (is_monitor) return pthread_cond_wait(condition, mutex);
  return ((ClockWait *)dlsym(RTLD_NEXT, "pthread_cond_clockwait"))(condition, mutex, clock, until);
}
