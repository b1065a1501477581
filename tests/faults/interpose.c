/*
 * Between a program and the C library: counts the calls that change files below a directory, and at the n-th of them
 * kills the program, fails, or writes less than it was asked to. For LD_PRELOAD; the same for every server.
 *
 * A call counts when it changes a regular file, or a name, below one of the directories. What to do comes from
 * faults_arm(), or from the environment when the program starts: FAULTS_ROOTS (separated by colons), FAULTS_AT,
 * FAULTS_MODE, FAULTS_ERRNO, FAULTS_LOG (a file that exists; the record of each call is appended to it).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same names in interposer.py. */
enum mode { COUNT, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAIL, FAIL_ON, SHORT, SHORT_ON, TORN_FAIL_ON };
enum kind { WRITE = 1, FSYNC, TRUNCATE, CREATE, LINK, UNLINK, RENAME, ALLOCATE, MKDIR };

struct record {
	uint32_t kind;
	int32_t error;
	uint64_t inode;
	int64_t offset; /* of a write; the new size of a truncate; the end of what is allocated; 1 for the fsync of a directory */
	uint32_t length, name, other; /* octets of data, path and second path, which follow */
};

static char roots[PATH_MAX];
static long at, calls;
static int mode, error_number, log_fd = -1;

void faults_arm(const char *where, long nth, int what, int number, int log)
{
	snprintf(roots, sizeof roots, "%s", where);
	at = nth;
	mode = what;
	error_number = number;
	log_fd = log;
	calls = 0;
}

long faults_calls(void)
{
	return calls;
}

__attribute__((constructor)) static void begin(void)
{
	const char *where = getenv("FAULTS_ROOTS");
	const char *log = getenv("FAULTS_LOG");

	if (where)
		faults_arm(where, atol(getenv("FAULTS_AT")), atoi(getenv("FAULTS_MODE")), atoi(getenv("FAULTS_ERRNO")),
			log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC, 0) : -1);
}

static int below(const char *path)
{
	for (const char *root = roots; *root;) {
		size_t length = strcspn(root, ":");

		if (length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]))
			return 1;
		root += length;
		root += *root == ':';
	}
	return 0;
}

/* The path of a file or directory that is open, if it is below a root. */
static int watched_fd(int fd, char *path, struct stat *status, int directory_too)
{
	char link[64];
	ssize_t length;
	int saved = errno;

	*path = 0;
	if (!*roots || fstat(fd, status) || !(S_ISREG(status->st_mode) || (directory_too && S_ISDIR(status->st_mode)))) {
		errno = saved;
		return 0;
	}
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, PATH_MAX - 1);
	errno = saved;
	if (length < 0)
		return 0;
	path[length] = 0;
	return below(path);
}

static int watched_name(int directory, const char *name, char *path)
{
	char link[64], base[PATH_MAX];
	ssize_t length;
	int saved = errno;

	if (!*roots)
		return 0;
	if (*name == '/') {
		snprintf(path, PATH_MAX, "%s", name);
		return below(path);
	}
	snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
	length = readlink(directory == AT_FDCWD ? "/proc/self/cwd" : link, base, sizeof base - 1);
	errno = saved;
	if (length < 0)
		return 0;
	base[length] = 0;
	if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
		return 0;
	return below(path);
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void log_call(enum kind kind, int error, uint64_t inode, int64_t offset, const char *path, const char *other,
		     const void *data, size_t length)
{
	struct record record = { kind, error, inode, offset, length, strlen(path), other ? strlen(other) : 0 };
	struct iovec parts[] = { { &record, sizeof record }, { (void *)path, record.name },
				 { (void *)(other ? other : ""), record.other }, { (void *)data, length } };
	int saved = errno;

	if (log_fd >= 0)
		syscall(SYS_writev, log_fd, parts, 4);
	errno = saved;
}

/* Called before each call that counts: whether it shall fail. */
static int fails(void)
{
	calls++;
	if (mode == KILL_BEFORE && calls == at)
		die();
	if ((mode == FAIL && calls == at) || (mode == FAIL_ON && calls >= at) || (mode == TORN_FAIL_ON && calls > at)) {
		errno = error_number;
		return 1;
	}
	return 0;
}

static void done(void)
{
	if (mode == KILL_AFTER && calls == at)
		die();
}

static ssize_t write_watched(int fd, const void *data, size_t length, off_t offset, int positioned, const char *path,
			     const struct stat *status)
{
	off_t place = offset;
	size_t wanted = length;
	ssize_t written;
	int torn;

	if (fails()) {
		log_call(WRITE, errno, status->st_ino, offset, path, NULL, NULL, 0);
		return -1;
	}
	torn = mode == KILL_TORN && calls == at;
	if (torn || ((mode == SHORT || mode == TORN_FAIL_ON) && calls == at) || (mode == SHORT_ON && calls >= at))
		wanted = length > 1 ? length / 2 : length;
	if (!positioned)
		place = fcntl(fd, F_GETFL) & O_APPEND ? status->st_size : lseek(fd, 0, SEEK_CUR);
	written = positioned ? syscall(SYS_pwrite64, fd, data, wanted, offset) : syscall(SYS_write, fd, data, wanted);
	log_call(WRITE, written < 0 ? errno : 0, status->st_ino, place, path, NULL, data, written < 0 ? 0 : written);
	if (torn)
		die();
	done();
	return written;
}

ssize_t write(int fd, const void *data, size_t length)
{
	char path[PATH_MAX];
	struct stat status;

	if (!watched_fd(fd, path, &status, 0))
		return syscall(SYS_write, fd, data, length);
	return write_watched(fd, data, length, 0, 0, path, &status);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	char path[PATH_MAX];
	struct stat status;

	if (!watched_fd(fd, path, &status, 0))
		return syscall(SYS_pwrite64, fd, data, length, offset);
	return write_watched(fd, data, length, offset, 1, path, &status);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return pwrite64(fd, data, length, offset);
}

/* As one write of all pieces: what a crash can tear is the same. */
static ssize_t write_pieces(int fd, const struct iovec *pieces, int count, off_t offset, int positioned)
{
	char path[PATH_MAX];
	struct stat status;
	size_t length = 0;
	ssize_t written;
	char *all;

	if (!watched_fd(fd, path, &status, 0))
		return positioned ? syscall(SYS_pwritev, fd, pieces, count, offset, 0) : syscall(SYS_writev, fd, pieces, count);
	for (int i = 0; i < count; i++)
		length += pieces[i].iov_len;
	if (!(all = malloc(length + 1)))
		abort();
	length = 0;
	for (int i = 0; i < count; i++) {
		memcpy(all + length, pieces[i].iov_base, pieces[i].iov_len);
		length += pieces[i].iov_len;
	}
	written = write_watched(fd, all, length, offset, positioned, path, &status);
	free(all);
	return written;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	return write_pieces(fd, pieces, count, 0, 0);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
	return write_pieces(fd, pieces, count, offset, 1);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
	return write_pieces(fd, pieces, count, offset, 1);
}

/* The rest: the call, its record, the death behind it. */
#define COUNTED(KIND, INODE, OFFSET, PATH, OTHER, CALL)                                        \
	do {                                                                                   \
		int result;                                                                    \
		if (fails())                                                                   \
			result = -1;                                                           \
		else                                                                           \
			result = (CALL);                                                       \
		log_call(KIND, result < 0 ? errno : 0, INODE, OFFSET, PATH, OTHER, NULL, 0); \
		if (result >= 0)                                                               \
			done();                                                                \
		return result;                                                                 \
	} while (0)

static int synced(int fd, long number)
{
	char path[PATH_MAX];
	struct stat status;

	if (!watched_fd(fd, path, &status, 1))
		return syscall(number, fd);
	COUNTED(FSYNC, status.st_ino, S_ISDIR(status.st_mode) != 0, path, NULL, syscall(number, fd));
}

int fsync(int fd)
{
	return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return synced(fd, SYS_fdatasync);
}

int ftruncate64(int fd, off64_t size)
{
	char path[PATH_MAX];
	struct stat status;

	if (!watched_fd(fd, path, &status, 0))
		return syscall(SYS_ftruncate, fd, size);
	COUNTED(TRUNCATE, status.st_ino, size, path, NULL, syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

/* Answers with an error number, and does not set errno. */
int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	char path[PATH_MAX];
	struct stat status;
	int saved = errno, error = 0;

	if (!watched_fd(fd, path, &status, 0))
		return syscall(SYS_fallocate, fd, 0, offset, length) ? errno : 0;
	if (fails() || syscall(SYS_fallocate, fd, 0, offset, length))
		error = errno;
	log_call(ALLOCATE, error, status.st_ino, offset + length, path, NULL, NULL, 0);
	if (!error)
		done();
	errno = saved;
	return error;
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
	return posix_fallocate64(fd, offset, length);
}

static int opened(int directory, const char *name, int flags, mode_t bits)
{
	char path[PATH_MAX];
	struct stat status = { 0 };
	int fd, kind = flags & O_CREAT ? CREATE : TRUNCATE, error;

	if (!(flags & (O_CREAT | O_TRUNC)) || !watched_name(directory, name, path))
		return syscall(SYS_openat, directory, name, flags, bits);
	fd = fails() ? -1 : syscall(SYS_openat, directory, name, flags, bits);
	error = fd < 0 ? errno : 0;
	if (fd >= 0)
		fstat(fd, &status);
	log_call(kind, error, status.st_ino, 0, path, NULL, NULL, 0);
	if (fd >= 0)
		done();
	errno = error;
	return fd;
}

#define MODE_OF(FLAGS)                                          \
	mode_t bits = 0;                                        \
	if ((FLAGS) & (O_CREAT | O_TMPFILE)) {                  \
		va_list more;                                   \
		va_start(more, FLAGS);                          \
		bits = va_arg(more, mode_t);                    \
		va_end(more);                                   \
	}

int open64(const char *name, int flags, ...)
{
	MODE_OF(flags)
	return opened(AT_FDCWD, name, flags, bits);
}

int open(const char *name, int flags, ...)
{
	MODE_OF(flags)
	return opened(AT_FDCWD, name, flags, bits);
}

int openat64(int directory, const char *name, int flags, ...)
{
	MODE_OF(flags)
	return opened(directory, name, flags, bits);
}

int openat(int directory, const char *name, int flags, ...)
{
	MODE_OF(flags)
	return opened(directory, name, flags, bits);
}

int linkat(int from_directory, const char *from, int directory, const char *name, int flags)
{
	char path[PATH_MAX], other[PATH_MAX];

	if (!watched_name(directory, name, other))
		return syscall(SYS_linkat, from_directory, from, directory, name, flags);
	watched_name(from_directory, from, path);
	COUNTED(LINK, 0, 0, path, other, syscall(SYS_linkat, from_directory, from, directory, name, flags));
}

int link(const char *from, const char *name)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, name, 0);
}

int unlinkat(int directory, const char *name, int flags)
{
	char path[PATH_MAX];

	if (!watched_name(directory, name, path))
		return syscall(SYS_unlinkat, directory, name, flags);
	COUNTED(UNLINK, 0, 0, path, NULL, syscall(SYS_unlinkat, directory, name, flags));
}

int unlink(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
	return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int directory, const char *name, mode_t bits)
{
	char path[PATH_MAX];

	if (!watched_name(directory, name, path))
		return syscall(SYS_mkdirat, directory, name, bits);
	COUNTED(MKDIR, 0, 0, path, NULL, syscall(SYS_mkdirat, directory, name, bits));
}

int mkdir(const char *name, mode_t bits)
{
	return mkdirat(AT_FDCWD, name, bits);
}

int renameat2(int from_directory, const char *from, int directory, const char *name, unsigned int flags)
{
	char path[PATH_MAX], other[PATH_MAX];

	if (!watched_name(directory, name, other))
		return syscall(SYS_renameat2, from_directory, from, directory, name, flags);
	watched_name(from_directory, from, path);
	COUNTED(RENAME, 0, 0, path, other, syscall(SYS_renameat2, from_directory, from, directory, name, flags));
}

int renameat(int from_directory, const char *from, int directory, const char *name)
{
	return renameat2(from_directory, from, directory, name, 0);
}

int rename(const char *from, const char *name)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, name, 0);
}
