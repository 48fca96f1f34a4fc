/* What the streaming mock and the streaming client share. Linux only. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define FDS_MAX 65536

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void *take(void *block) {
    if (block == NULL) die("memory");
    return block;
}

static inline void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void watch(int poll_fd, int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll_fd, operation, fd, &event) < 0) die("epoll_ctl");
}

/* Waits until something happens or `due` (0: for ever) has come. epoll_wait knows milliseconds
 * only, which would release chunks in bursts of a millisecond; epoll_pwait2 knows nanoseconds. */
static inline int wait_until(int poll_fd, struct epoll_event *events, int size, uint64_t due) {
    struct timespec left = {0, 0};
    if (due != 0) {
        uint64_t now = now_ns();
        if (due > now) {
            left.tv_sec = (time_t)((due - now) / SECOND);
            left.tv_nsec = (long)((due - now) % SECOND);
        }
    }
    int count = epoll_pwait2(poll_fd, events, size, due != 0 ? &left : NULL, NULL);
    if (count < 0 && errno != EINTR) die("epoll_pwait2");
    return count < 0 ? 0 : count;
}

/* A heap of moments, the earliest first. An entry whose generation is no longer its owner's is
 * stale; the reader drops it, so nothing ever has to be removed from the middle. */
struct moment {
    uint64_t due;
    int owner;
    uint32_t generation;
};

struct agenda {
    struct moment *at;
    size_t count, size;
};

static inline void agenda_add(struct agenda *agenda, struct moment moment) {
    if (agenda->count == agenda->size) {
        agenda->size = agenda->size ? agenda->size * 2 : 4096;
        agenda->at = take(realloc(agenda->at, agenda->size * sizeof *agenda->at));
    }
    size_t place = agenda->count++;
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (agenda->at[parent].due <= moment.due) break;
        agenda->at[place] = agenda->at[parent];
        place = parent;
    }
    agenda->at[place] = moment;
}

static inline struct moment agenda_pop(struct agenda *agenda) {
    struct moment first = agenda->at[0], last = agenda->at[--agenda->count];
    size_t place = 0;
    for (;;) {
        size_t child = place * 2 + 1;
        if (child >= agenda->count) break;
        if (child + 1 < agenda->count && agenda->at[child + 1].due < agenda->at[child].due) child++;
        if (agenda->at[child].due >= last.due) break;
        agenda->at[place] = agenda->at[child];
        place = child;
    }
    agenda->at[place] = last;
    return first;
}

#endif
