/* Records what a process does to the files below one folder, in the order in which the kernel did it, for LD_PRELOAD.

   A record, little-endian: u8 kind, u64 inode, u64 offset or length, u32 bytes of data, u16 and u16 bytes of two paths,
   then the paths and the data. Kinds: c created, w write, t truncated to, s synced, x not synced for an I/O error,
   d directory synced, m renamed, l linked, u unlinked, a mark. Until record_start is called nothing is recorded. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char prefix[PATH_MAX];
static size_t prefix_length;
static int journal = -1;
static int failing, syncs; /* every `failing`th sync fails; 0: none */

static int ours(const char *path) { return prefix_length && !strncmp(path, prefix, prefix_length); }

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return ours(path);
}

static void absolute(int folder, const char *given, char *path) {
    path[0] = 0;
    if (given[0] != '/') {
        if (folder == AT_FDCWD) { if (!getcwd(path, PATH_MAX / 2)) path[0] = 0; }
        else { char link[64]; snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
               ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX / 2); path[n < 0 ? 0 : n] = 0; }
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
    }
    strncat(path, given, PATH_MAX - strlen(path) - 1);
}

static uint64_t inode_of(int fd) {
    struct stat facts;
    return fstat(fd, &facts) ? 0 : (uint64_t)facts.st_ino;
}

static void tell(char kind, uint64_t inode, uint64_t at, const char *one, const char *two, const void *data, uint32_t size) {
    char head[25];
    uint16_t first = one ? strlen(one) : 0, second = two ? strlen(two) : 0;
    head[0] = kind;
    memcpy(head + 1, &inode, 8); memcpy(head + 9, &at, 8); memcpy(head + 17, &size, 4);
    memcpy(head + 21, &first, 2); memcpy(head + 23, &second, 2);
    struct iovec parts[4] = {{head, 25}, {(void *)one, first}, {(void *)two, second}, {(void *)data, size}};
    size_t total = 25 + first + second + size;
    if (syscall(SYS_writev, journal, parts, 4) != (ssize_t)total) abort();
}

#define AROUND(call, seen) ({ \
    pthread_mutex_lock(&guard); \
    __typeof__(call) answer = (call); \
    int kept = errno; \
    if (answer >= 0 && prefix_length) { seen; } \
    errno = kept; \
    pthread_mutex_unlock(&guard); \
    answer; })

int record_start(const char *folder, const char *file) {
    journal = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    strncpy(prefix, folder, PATH_MAX - 1);
    prefix_length = strlen(prefix);
    return journal;
}

void record_mark(const char *mark) {
    pthread_mutex_lock(&guard);
    if (prefix_length) tell('a', 0, 0, NULL, NULL, mark, strlen(mark));
    pthread_mutex_unlock(&guard);
}

static void opened(int fd, int folder, const char *given, int flags, int was_there) {
    char path[PATH_MAX];
    absolute(folder, given, path);
    if (!ours(path)) return;
    if ((flags & O_CREAT) && !was_there) tell('c', inode_of(fd), 0, path, NULL, NULL, 0);
    else if (flags & O_TRUNC) tell('t', inode_of(fd), 0, path, NULL, NULL, 0);
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    struct stat facts;
    int was_there = (flags & O_CREAT) && prefix_length && !syscall(SYS_newfstatat, folder, path, &facts, 0);
    return AROUND((int)syscall(SYS_openat, folder, path, flags, mode), opened(answer, folder, path, flags, was_there));
}

#define MODE(flags, last) ({ mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); \
    mode = va_arg(rest, mode_t); va_end(rest); } mode; })
int open(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE(flags, flags)); }
int open64(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags | O_LARGEFILE, MODE(flags, flags)); }
int openat(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE(flags, flags)); }
int openat64(int folder, const char *path, int flags, ...) { return open_at(folder, path, flags, MODE(flags, flags)); }

static void written(int fd, const void *data, ssize_t size, off_t at) {
    char path[PATH_MAX];
    if (size > 0 && path_of(fd, path)) tell('w', inode_of(fd), at, path, NULL, data, size);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!prefix_length) return syscall(SYS_write, fd, data, size);
    return AROUND((ssize_t)syscall(SYS_write, fd, data, size),
                  written(fd, data, answer, syscall(SYS_lseek, fd, 0, SEEK_CUR) - answer));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return AROUND((ssize_t)syscall(SYS_pwrite64, fd, data, size, at), written(fd, data, answer, at));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

static void synced(int fd) {
    char path[PATH_MAX];
    struct stat facts;
    if (path_of(fd, path) && !fstat(fd, &facts)) tell(S_ISDIR(facts.st_mode) ? 'd' : 's', facts.st_ino, 0, path, NULL, NULL, 0);
}
static int fails(int fd) {
    char path[PATH_MAX];
    struct stat facts;
    if (!failing || !prefix_length || fstat(fd, &facts) || !S_ISREG(facts.st_mode)) return 0;
    pthread_mutex_lock(&guard);
    int chosen = path_of(fd, path) && ++syncs % failing == 0;
    if (chosen) tell('x', facts.st_ino, 0, path, NULL, NULL, 0);
    pthread_mutex_unlock(&guard);
    if (chosen) errno = EIO;
    return chosen;
}
void record_failing(int every) { failing = every; }
int fsync(int fd) { return fails(fd) ? -1 : AROUND((int)syscall(SYS_fsync, fd), synced(fd)); }
int fdatasync(int fd) { return fails(fd) ? -1 : AROUND((int)syscall(SYS_fdatasync, fd), synced(fd)); }

static void cut(int fd, off_t size) {
    char path[PATH_MAX];
    if (path_of(fd, path)) tell('t', inode_of(fd), size, path, NULL, NULL, 0);
}
int ftruncate64(int fd, off64_t size) { return AROUND((int)syscall(SYS_ftruncate, fd, size), cut(fd, size)); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static void moved(char kind, int from, const char *old, int to, const char *new) {
    char one[PATH_MAX], two[PATH_MAX];
    absolute(from, old, one); absolute(to, new, two);
    if (ours(one) || ours(two)) tell(kind, 0, 0, one, two, NULL, 0);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return AROUND((int)syscall(SYS_renameat2, from, old, to, new, flags), moved('m', from, old, to, new));
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    return AROUND((int)syscall(SYS_linkat, from, old, to, new, flags), moved('l', from, old, to, new));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

static void removed(int folder, const char *given) {
    char path[PATH_MAX];
    absolute(folder, given, path);
    if (ours(path)) tell('u', 0, 0, path, NULL, NULL, 0);
}
int unlinkat(int folder, const char *path, int flags) {
    return AROUND((int)syscall(SYS_unlinkat, folder, path, flags), removed(folder, path));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
