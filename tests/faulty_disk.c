/*
 * A disk that fails, under a program that knows nothing of it: preloaded (LD_PRELOAD), it stands between the program and libc.
 *
 * The file that CDR_FAULTS names holds a fault a line, and is read at each call, so that faults come and go while the program runs:
 *
 *     CALL ERRNO PATH FROM TO
 *
 * CALL is read, write, sync or create; calls on files whose path contains PATH, and that touch bytes FROM..TO, fail with ERRNO.
 * With ERRNO 0 they hang until the line is gone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The errno of the first fault that applies, 0 for one that hangs, -1 for none. */
static int fault(const char *call, const char *path, long long from, long long to) {
    const char *faults = getenv("CDR_FAULTS");
    char text[4096];
    int fd = faults ? (int)syscall(SYS_openat, AT_FDCWD, faults, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return -1;
    ssize_t length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[length > 0 ? length : 0] = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char name[16], part[1024];
        int error;
        long long first, end;
        if (sscanf(line, "%15s %d %1023s %lld %lld", name, &error, part, &first, &end) == 5 && !strcmp(name, call) &&
            strstr(path, part) && from < end && first < to)
            return error;
    }
    return -1;
}

static int fails(const char *call, const char *path, long long from, long long to) {
    int error;
    while ((error = fault(call, path, from, to)) == 0) usleep(10000);
    if (error < 0) return 0;
    errno = error;
    return 1;
}

static int fails_on(const char *call, int fd, long long from, long long to) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path, from, to);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    if (fails_on("write", fd, offset, offset + (long long)length)) return -1;
    return REAL(pwrite64)(fd, bytes, length, offset);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    if (fails_on("read", fd, offset, offset + (long long)length)) return -1;
    return REAL(pread64)(fd, bytes, length, offset);
}

int fdatasync(int fd) {
    return fails_on("sync", fd, 0, 1) ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd) {
    return fails_on("sync", fd, 0, 1) ? -1 : REAL(fsync)(fd);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
    va_end(rest);
    if (flags & O_CREAT && fails("create", path, 0, 1)) return -1;
    return REAL(open64)(path, flags, mode);
}
