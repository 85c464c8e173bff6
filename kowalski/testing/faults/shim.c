/* Loaded into every process of a campaign's instance (LD_PRELOAD): it moves the process's clock, and leads its
 * connections through proxies.
 *
 * FAULTS_CLOCKS  folder of files that hold one 64-bit number each, by how many seconds a clock is ahead: one for each
 *                process, named by its id, and "all" for everybody. They are mapped, so that a change holds at once.
 *                mongod's clock is left alone: its journal waits by the wall clock, and when that is set back by a day
 *                it takes no write for a day, until somebody restarts it.
 * FAULTS_WAYS    "PORT=PROXY ...": who connects to PORT of this machine is led to PROXY.
 *
 * Only CLOCK_REALTIME is moved, as an operator or NTP moves it. The kernel knows nothing of that, so moments until which
 * it is to wait are moved back; those of CLOCK_MONOTONIC, seconds since boot, are small numbers and left alone. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define WAYS 16
#define SINCE_1970 1000000000

static const int64_t zero;
static const volatile int64_t *own = &zero, *all = &zero;
static struct { uint16_t from, to; } ways[WAYS];
static int count;

static const volatile int64_t *clock_of(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *map = file >= 0 && ftruncate(file, sizeof(int64_t)) == 0
        ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    if (file >= 0)
        close(file);
    return map == MAP_FAILED ? &zero : map;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("FAULTS_CLOCKS"), *at = getenv("FAULTS_WAYS");
    int from, to, read;
    if (folder && strcmp(program_invocation_short_name, "mongod") != 0) {
        char name[16];
        snprintf(name, sizeof name, "%d", (int)getpid());
        own = clock_of(folder, name);
        all = clock_of(folder, "all");
    }
    for (; at && count < WAYS && sscanf(at, "%d=%d%n", &from, &to, &read) == 2; at += read, count++) {
        ways[count].from = htons(from);
        ways[count].to = htons(to);
    }
}

static int64_t ahead(void) { return *own + *all; }

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *now)
{
    NEXT(clock_gettime);
    int failed = next(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    (void)zone;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME_COARSE, &moment);
    if (into)
        *into = moment.tv_sec;
    return moment.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

static const struct timespec *moved(const struct timespec *until, struct timespec *into)
{
    *into = *until;
    if (into->tv_sec > SINCE_1970)
        into->tv_sec -= ahead();
    return into;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    struct timespec moment;
    NEXT(pthread_cond_timedwait);
    return next(cond, mutex, moved(until, &moment));
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    struct timespec moment;
    NEXT(cnd_timedwait);
    return next(cond, mutex, moved(until, &moment));
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    struct timespec moment;
    NEXT(sem_timedwait);
    return next(sem, moved(until, &moment));
}

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_in there;
    NEXT(connect);
    if (address->sa_family == AF_INET && length >= sizeof there) {
        memcpy(&there, address, sizeof there);
        for (int n = 0; n < count; n++)
            if (there.sin_port == ways[n].from && ntohl(there.sin_addr.s_addr) >> 24 == 127) {
                there.sin_port = ways[n].to;
                return next(socket, (struct sockaddr *)&there, sizeof there);
            }
    }
    return next(socket, address, length);
}
