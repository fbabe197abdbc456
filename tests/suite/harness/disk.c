/* Writes down what a program does to the files of one directory, and what of it a sync has covered. Preloaded into the
 * program (LD_PRELOAD); disk.rs reads what it wrote and rebuilds the files as a loss of power could have left them.
 *
 *   DISK_DIRECTORY  the directory, as an absolute path without links
 *   DISK_TRACE      the file that the records are appended to
 *   DISK_FAIL       which syncs fail with EIO: "NAME:N" is the Nth of the file NAME (from 1); several with commas
 *
 * A record is: kind (1 byte), file (4), number (8), length (4), and as many bytes; numbers are little-endian. Kinds:
 *   O  a file was made; the bytes are its name            W  bytes were written at this offset
 *   T  the file has this length now                       S  a sync of the file has returned
 *   F  a sync of the file has failed                      D  a sync of the directory has returned
 *   U  the name was removed                               R  the name before the zero byte became the one behind it
 *
 * All of it happens under one lock, so the order of the records is the order of what happened. */
#define _GNU_SOURCE
#include <dlfcn.h>
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
#include <sys/uio.h>
#include <unistd.h>

enum { DESCRIPTORS = 65536, FILES = 1024, RULES = 64, NOTHING = 0, DIRECTORY = -1 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory, *fail;
static size_t directory_length;
static int trace = -1;
/* What is behind a descriptor: NOTHING of ours, the DIRECTORY, or a file's number. */
static int behind[DESCRIPTORS];
/* The names of the files, by their number less one; an empty one was removed. */
static char names[FILES][NAME_MAX + 1];
static int count;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("DISK_TRACE");
  directory = getenv("DISK_DIRECTORY");
  fail = getenv("DISK_FAIL");
  if (directory == NULL || path == NULL) return;
  directory_length = strlen(directory);
  trace = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (trace < 0) abort();
}

static void record(char kind, int file, uint64_t number, const void *bytes, uint32_t length) {
  struct __attribute__((packed)) { char kind; uint32_t file; uint64_t number; uint32_t length; } head = {
    kind, (uint32_t)file, number, length };
  struct iovec parts[] = { { &head, sizeof head }, { (void *)bytes, length } };
  if (REAL(writev)(trace, parts, 2) != (ssize_t)(sizeof head + length)) abort();
}

/* The name of a path in the directory; "" is the directory itself, NULL is elsewhere. */
static const char *name_in(const char *path) {
  if (trace < 0 || strncmp(path, directory, directory_length) != 0) return NULL;
  path += directory_length;
  if (*path == '\0') return path;
  return *path == '/' && strchr(path + 1, '/') == NULL ? path + 1 : NULL;
}

/* The same of a path as it was passed, which may be relative to where the program runs. */
static const char *name_of(const char *path, char absolute[PATH_MAX]) {
  if (path[0] == '/') return name_in(path);
  if (getcwd(absolute, PATH_MAX) == NULL) return NULL;
  size_t length = strlen(absolute);
  snprintf(absolute + length, PATH_MAX - length, "/%s", path);
  return name_in(absolute);
}

static int number_of(const char *name) {
  for (int at = 0; at < count; at++) if (strcmp(names[at], name) == 0) return at + 1;
  return NOTHING;
}

/* Which file a descriptor is that was opened just now. */
static void opened(int descriptor, int is_truncated) {
  char link[64], path[PATH_MAX];
  if (descriptor < 0 || descriptor >= DESCRIPTORS) return;
  behind[descriptor] = NOTHING;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = '\0';
  const char *name = name_in(path);
  if (name == NULL) return;
  if (*name == '\0') { behind[descriptor] = DIRECTORY; return; }
  int number = number_of(name);
  if (number == NOTHING) {
    if (count == FILES) abort();
    snprintf(names[count], sizeof names[count], "%s", name);
    number = ++count;
    record('O', number, 0, name, (uint32_t)strlen(name));
  } else if (is_truncated) {
    record('T', number, 0, NULL, 0);
  }
  behind[descriptor] = number;
}

#define OPEN(name, extra, ...)                                        \
  int name(extra const char *path, int flags, ...) {                  \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                     \
    pthread_mutex_lock(&lock);                                        \
    int descriptor = REAL(name)(__VA_ARGS__ path, flags, mode);       \
    int error = errno;                                                \
    if (trace >= 0) opened(descriptor, (flags & O_TRUNC) != 0);       \
    pthread_mutex_unlock(&lock);                                      \
    errno = error;                                                    \
    return descriptor;                                                \
  }
#define AT int at,
OPEN(open, )
OPEN(open64, )
OPEN(openat, AT, at,)
OPEN(openat64, AT, at,)

int close(int descriptor) {
  pthread_mutex_lock(&lock);
  if (descriptor >= 0 && descriptor < DESCRIPTORS) behind[descriptor] = NOTHING;
  int result = REAL(close)(descriptor), error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static int file_behind(int descriptor) {
  return descriptor >= 0 && descriptor < DESCRIPTORS ? behind[descriptor] : NOTHING;
}

/* Looks without the lock first: sockets are written to all the time, and nobody else closes the descriptor meanwhile. */
#define WRITE(name, parameters, offset_before, ...)                   \
  ssize_t name parameters {                                           \
    if (file_behind(descriptor) <= NOTHING) return REAL(name)(__VA_ARGS__); \
    pthread_mutex_lock(&lock);                                        \
    off_t at = offset_before;                                         \
    ssize_t length = REAL(name)(__VA_ARGS__);                         \
    int error = errno;                                                \
    if (length > 0) record('W', file_behind(descriptor), (uint64_t)at, bytes, (uint32_t)length); \
    pthread_mutex_unlock(&lock);                                      \
    errno = error;                                                    \
    return length;                                                    \
  }
/* Where a write without an offset goes: a file that is appended to has its end there. */
static off_t position(int descriptor) {
  int is_appended = fcntl(descriptor, F_GETFL) & O_APPEND;
  return lseek(descriptor, 0, is_appended ? SEEK_END : SEEK_CUR);
}
WRITE(write, (int descriptor, const void *bytes, size_t size), position(descriptor), descriptor, bytes, size)
WRITE(pwrite, (int descriptor, const void *bytes, size_t size, off_t offset), offset, descriptor, bytes, size, offset)
WRITE(pwrite64, (int descriptor, const void *bytes, size_t size, off64_t offset), offset, descriptor, bytes, size, offset)

#define TRUNCATE(name, type)                                          \
  int name(int descriptor, type length) {                             \
    pthread_mutex_lock(&lock);                                        \
    int result = REAL(name)(descriptor, length), error = errno;       \
    int file = file_behind(descriptor);                               \
    if (result == 0 && file > NOTHING) record('T', file, (uint64_t)length, NULL, 0); \
    pthread_mutex_unlock(&lock);                                      \
    errno = error;                                                    \
    return result;                                                    \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* Whether the sync that comes now is one of those that fail. A file that is made anew goes on with the count of its name. */
static int is_to_fail(int file) {
  static int counts[RULES];
  size_t length = strlen(names[file - 1]);
  int rule = 0, fails = 0;
  for (const char *at = fail; at != NULL && *at != '\0' && rule < RULES; rule++) {
    int is_meant = strncmp(at, names[file - 1], length) == 0 && at[length] == ':';
    if (is_meant && ++counts[rule] == atoi(at + length + 1)) fails = 1;
    at = strchr(at, ',');
    if (at != NULL) at++;
  }
  return fails;
}

#define SYNC(name)                                                    \
  int name(int descriptor) {                                          \
    pthread_mutex_lock(&lock);                                        \
    int file = file_behind(descriptor);                               \
    int fails = file > NOTHING && is_to_fail(file);                   \
    int result = fails ? -1 : REAL(name)(descriptor);                 \
    int error = fails ? EIO : errno;                                  \
    if (file > NOTHING) record(result == 0 ? 'S' : 'F', file, 0, NULL, 0); \
    if (file == DIRECTORY && result == 0) record('D', 0, 0, NULL, 0); \
    pthread_mutex_unlock(&lock);                                      \
    errno = error;                                                    \
    return result;                                                    \
  }
SYNC(fsync)
SYNC(fdatasync)

static void removed(const char *name) {
  int number = number_of(name);
  if (number != NOTHING) names[number - 1][0] = '\0';
  record('U', number, 0, name, (uint32_t)strlen(name));
}

int unlink(const char *path) {
  char absolute[PATH_MAX];
  pthread_mutex_lock(&lock);
  const char *name = name_of(path, absolute);
  int result = REAL(unlink)(path), error = errno;
  if (result == 0 && name != NULL) removed(name);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int rename(const char *from, const char *to) {
  char absolute_from[PATH_MAX], absolute_to[PATH_MAX], both[2 * NAME_MAX + 2];
  pthread_mutex_lock(&lock);
  const char *old = name_of(from, absolute_from), *new = name_of(to, absolute_to);
  int result = REAL(rename)(from, to), error = errno;
  if (result == 0 && old != NULL && new != NULL) {
    int replaced = number_of(new), number = number_of(old);
    if (replaced != NOTHING) names[replaced - 1][0] = '\0';
    if (number != NOTHING) snprintf(names[number - 1], sizeof names[number - 1], "%s", new);
    int length = snprintf(both, sizeof both, "%s%c%s", old, '\0', new);
    record('R', number, 0, both, (uint32_t)length);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
