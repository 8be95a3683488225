/* Counts the file operations of a process under one folder, and fails the n-th or ends the process there.

   Loaded with LD_PRELOAD it stands between a program (Python, Rust and C++ alike) and the C library. It sleeps until
   faults_arm() is called; a fork inherits its state. Only what changes a file system counts: opening for writing,
   writing, syncing, renaming, removing, making a directory, changing length or mode. What calls the kernel without the
   C library is not seen: the rename by which safetensors puts a file into the partial directory is such a one. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, WRITE, FSYNC, RENAME, UNLINK, MKDIR, CHANGE, KINDS };
enum mode { COUNT, FAIL_ONCE, FAIL_FROM, END_BEFORE, END_WITHIN };

static char watched[PATH_MAX];
static size_t watched_length;
static volatile int armed, mode, error_number, struck;
static volatile long nth, seen, seen_of[KINDS];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, long n, int how, int error) {
    snprintf(watched, sizeof watched, "%s", folder);
    watched_length = strlen(watched);
    nth = n;
    mode = how;
    error_number = error;
    seen = 0;
    struck = 0;
    memset((void *)seen_of, 0, sizeof seen_of);
    armed = 1;
}

void faults_disarm(void) { armed = 0; }
long faults_seen(int kind) { return kind < 0 ? seen : seen_of[kind]; }
int faults_struck(void) { return struck; }

static int watches(int folder, const char *path) {
    char whole[2 * PATH_MAX], link[64];
    if (path == NULL) return 0;
    if (path[0] == '/') {
        snprintf(whole, sizeof whole, "%s", path);
    } else {
        ssize_t length;
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(link, whole, PATH_MAX);
        if (length < 0) return 0;
        snprintf(whole + length, sizeof whole - (size_t)length, "/%s", path);
    }
    return strncmp(whole, watched, watched_length) == 0;
}

static int watches_handle(int handle) {
    char link[64], path[PATH_MAX];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, watched, watched_length) == 0;
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Returns whether this operation is to fail; on `within`, whether it is to happen by half before the process ends. */
static int strikes(enum kind kind, int allocates, int *within) {
    long number = __sync_add_and_fetch(&seen, 1);
    __sync_add_and_fetch(&seen_of[kind], 1);
    if (mode == COUNT || number < nth) return 0;
    if (mode == FAIL_FROM ? !allocates : number > nth) return 0; /* a full disk lets go of what it has */
    struck = 1;
    if (mode == END_BEFORE) end();
    if (mode == END_WITHIN) {
        if (within == NULL) end();
        *within = 1;
        return 0;
    }
    errno = error_number;
    return 1;
}

static int changes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

#define OPENER(name, parameters, call, folder, path)                                    \
    int name parameters {                                                               \
        mode_t permissions = 0;                                                         \
        if (flags & (O_CREAT | O_TMPFILE)) {                                            \
            va_list rest;                                                               \
            va_start(rest, flags);                                                      \
            permissions = va_arg(rest, mode_t);                                         \
            va_end(rest);                                                               \
        }                                                                               \
        if (armed && changes(flags) && watches(folder, path) && strikes(OPEN, 1, NULL)) \
            return -1;                                                                  \
        return call;                                                                    \
    }

OPENER(open, (const char *path, int flags, ...), REAL(open)(path, flags, permissions), AT_FDCWD, path)
OPENER(open64, (const char *path, int flags, ...), REAL(open64)(path, flags, permissions), AT_FDCWD, path)
OPENER(openat, (int folder, const char *path, int flags, ...), REAL(openat)(folder, path, flags, permissions), folder, path)
OPENER(openat64, (int folder, const char *path, int flags, ...), REAL(openat64)(folder, path, flags, permissions), folder, path)

ssize_t write(int handle, const void *bytes, size_t count) {
    int within = 0;
    if (armed && watches_handle(handle) && strikes(WRITE, 1, &within)) return -1;
    if (within) {
        REAL(write)(handle, bytes, count / 2);
        end();
    }
    return REAL(write)(handle, bytes, count);
}

ssize_t writev(int handle, const struct iovec *parts, int count) {
    if (armed && watches_handle(handle) && strikes(WRITE, 1, NULL)) return -1;
    return REAL(writev)(handle, parts, count);
}

#define POSITIONED(name, offset_type)                                                         \
    ssize_t name(int handle, const void *bytes, size_t count, offset_type offset) {           \
        int within = 0;                                                                       \
        if (armed && watches_handle(handle) && strikes(WRITE, 1, &within)) return -1;         \
        if (within) {                                                                         \
            REAL(name)(handle, bytes, count / 2, offset);                                     \
            end();                                                                            \
        }                                                                                     \
        return REAL(name)(handle, bytes, count, offset);                                      \
    }

POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)

ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    if (armed && watches_handle(to) && strikes(WRITE, 1, NULL)) return -1;
    return REAL(sendfile)(to, from, offset, count);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    if (armed && watches_handle(to) && strikes(WRITE, 1, NULL)) return -1;
    return REAL(sendfile64)(to, from, offset, count);
}

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *offset, size_t count, unsigned flags) {
    if (armed && watches_handle(to) && strikes(WRITE, 1, NULL)) return -1;
    return REAL(copy_file_range)(from, start, to, offset, count, flags);
}

#define ON_HANDLE(name, parameters, call, kind, allocates)                            \
    int name parameters {                                                             \
        if (armed && watches_handle(handle) && strikes(kind, allocates, NULL)) return -1; \
        return call;                                                                  \
    }

ON_HANDLE(fsync, (int handle), REAL(fsync)(handle), FSYNC, 0)
ON_HANDLE(fdatasync, (int handle), REAL(fdatasync)(handle), FSYNC, 0)
ON_HANDLE(ftruncate, (int handle, off_t length), REAL(ftruncate)(handle, length), CHANGE, 1)
ON_HANDLE(ftruncate64, (int handle, off64_t length), REAL(ftruncate64)(handle, length), CHANGE, 1)
ON_HANDLE(fchmod, (int handle, mode_t permissions), REAL(fchmod)(handle, permissions), CHANGE, 0)

#define ON_PATH(name, parameters, call, folder, path, kind, allocates)                    \
    int name parameters {                                                                 \
        if (armed && watches(folder, path) && strikes(kind, allocates, NULL)) return -1;  \
        return call;                                                                      \
    }

ON_PATH(rename, (const char *from, const char *to), REAL(rename)(from, to), AT_FDCWD, to, RENAME, 0)
ON_PATH(renameat, (int f, const char *from, int t, const char *to), REAL(renameat)(f, from, t, to), t, to, RENAME, 0)
ON_PATH(renameat2, (int f, const char *from, int t, const char *to, unsigned flags),
        REAL(renameat2)(f, from, t, to, flags), t, to, RENAME, 0)
ON_PATH(unlink, (const char *path), REAL(unlink)(path), AT_FDCWD, path, UNLINK, 0)
ON_PATH(unlinkat, (int folder, const char *path, int flags), REAL(unlinkat)(folder, path, flags), folder, path, UNLINK, 0)
ON_PATH(rmdir, (const char *path), REAL(rmdir)(path), AT_FDCWD, path, UNLINK, 0)
ON_PATH(mkdir, (const char *path, mode_t permissions), REAL(mkdir)(path, permissions), AT_FDCWD, path, MKDIR, 1)
ON_PATH(mkdirat, (int folder, const char *path, mode_t permissions), REAL(mkdirat)(folder, path, permissions), folder,
        path, MKDIR, 1)
ON_PATH(chmod, (const char *path, mode_t permissions), REAL(chmod)(path, permissions), AT_FDCWD, path, CHANGE, 0)
ON_PATH(fchmodat, (int folder, const char *path, mode_t permissions, int flags),
        REAL(fchmodat)(folder, path, permissions, flags), folder, path, CHANGE, 0)
