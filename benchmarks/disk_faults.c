/* Lets one call that changes files in a folder fail, for benchmarks/live_safety.py.
 *
 * Loaded before libc (LD_PRELOAD). `faults_arm(folder, at, kind)` counts the calls that follow and concern files in the folder;
 * call number `at`, from 1, fails as `kind` says, and with kind FULL every later write does too. `faults_disarm()` returns how many
 * calls there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, FULL, IO, SHORT };
enum { WRITE, SYNC, NAME };

static char folder[PATH_MAX];
static int kind = NONE, calls = 0, at = 0;

void faults_arm(const char *path, int number, int fault) {
    strncpy(folder, path, sizeof folder - 1);
    calls = 0;
    at = number;
    kind = fault;
}

int faults_disarm(void) {
    int counted = calls;
    folder[0] = 0;
    kind = NONE;
    return counted;
}

static int inside(const char *path) { return folder[0] && path && strncmp(path, folder, strlen(folder)) == 0; }

static int of_handle(int handle) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

/* The errno of this call; 0 if it works, -1 if it writes half. */
static int fault(int what) {
    int number = ++calls;
    if (kind == FULL) return number >= at && what != SYNC && at > 0 ? (what == NAME ? 0 : ENOSPC) : 0;
    if (number != at) return 0;
    if (kind == IO) return EIO;
    return kind == SHORT && what == WRITE ? -1 : 0;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define FAILS(what, value) \
    int code = fault(what); \
    if (code > 0) { errno = code; return value; }

ssize_t write(int handle, const void *bytes, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (of_handle(handle)) { FAILS(WRITE, -1) if (code < 0 && size > 1) size /= 2; }
    return real(handle, bytes, size);
}

ssize_t pwrite64(int handle, const void *bytes, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (of_handle(handle)) { FAILS(WRITE, -1) if (code < 0 && size > 1) size /= 2; }
    return real(handle, bytes, size, offset);
}

ssize_t pwrite(int handle, const void *bytes, size_t size, off_t offset) { return pwrite64(handle, bytes, size, offset); }

ssize_t writev(int handle, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (of_handle(handle)) { FAILS(WRITE, -1) }
    return real(handle, parts, count);
}

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    if (of_handle(fileno(file))) {
        FAILS(WRITE, 0)
        if (code < 0 && count > 1) return real(bytes, size, count / 2, file);
    }
    return real(bytes, size, count, file);
}

int fsync(int handle) {
    REAL(int, "fsync", int);
    if (of_handle(handle)) { FAILS(SYNC, -1) }
    return real(handle);
}

int ftruncate64(int handle, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (of_handle(handle)) { FAILS(NAME, -1) }
    return real(handle, size);
}

int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (inside(to)) { FAILS(NAME, -1) }
    return real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    if (inside(to)) { FAILS(NAME, -1) }
    return real(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (inside(path)) { FAILS(NAME, -1) }
    return real(path, mode);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (inside(path)) { FAILS(NAME, -1) }
    return real(path);
}
