/* lstate.c with another seed of string hashes than the time and some addresses: who can guess it makes up keys that all
   collide. */
#include <sys/random.h>
#include <time.h>

static unsigned int random_seed(void) {
  unsigned int seed = 0;
  /* Only a kernel that has just started and has nothing random yet leaves it short. */
  if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed ^= (unsigned int)time(NULL);
  return seed;
}
#define luai_makeseed random_seed

#include "lstate.c"
