/* Every system call of this process that changes files of one folder: counted, recorded, and one of them failed.
 *
 * A filter of the kernel (seccomp) sends these calls to a handler, whoever makes them: Python, NumPy, torch, FAISS, Rust or C's stdio.
 * `disk_watch` begins it in a process that was forked for one writer; it cannot be taken back. Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* System calls from here pass the filter. */
__asm__(".text\n.globl disk_raw\n.globl disk_raw_end\ndisk_raw:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\nmov 8(%rsp), %r9\n"
        "syscall\nret\ndisk_raw_end:\n");
extern long disk_raw(long number, long a, long b, long c, long d, long e, long f);
extern char disk_raw_end[];

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, RENAME, LINK, SYMLINK, UNLINK, MKDIR, RMDIR, MAP, CLOSE };
enum { NONE, FULL, IO, SHORT, INTERRUPT };

typedef struct {
    uint32_t op, fault;
    int64_t result, offset;
    uint64_t inode, size;
    uint32_t flags, path_size, other_size, data_size;
} Record;

static char folder[PATH_MAX];
static size_t folder_size;
static int log_file = -1, kind, full;
static long at, calls;
static volatile int busy;
static struct { char *begin, *end; char path[PATH_MAX]; } maps[64];
static int n_maps;

static int inside(const char *path) {
    return strncmp(path, folder, folder_size) == 0 && (path[folder_size] == '/' || path[folder_size] == 0);
}

static int path_of(int handle, char *path) {
    char link[32] = "/proc/self/fd/", digits[12];
    int n = 0, at_ = 14;
    if (handle < 0) return 0;
    do digits[n++] = '0' + handle % 10; while (handle /= 10);
    while (n) link[at_++] = digits[--n];
    link[at_] = 0;
    long size = disk_raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, PATH_MAX - 1, 0, 0);
    if (size < 0) return 0;
    path[size] = 0;
    return 1;
}

/* The absolute path of a name that a call was given. */
static int absolute(int parent, const char *name, char *path) {
    if (name[0] == '/') {
        strncpy(path, name, PATH_MAX - 1);
        return 1;
    }
    if (parent == AT_FDCWD) {
        if (disk_raw(SYS_getcwd, (long)path, PATH_MAX, 0, 0, 0, 0) < 0) return 0;
    } else if (!path_of(parent, path)) return 0;
    size_t size = strlen(path);
    if (size + strlen(name) + 2 > PATH_MAX) return 0;
    path[size] = '/';
    strcpy(path + size + 1, name);
    return 1;
}

static void put(const void *bytes, size_t size) {
    const char *from = bytes;
    while (size) {
        long written = disk_raw(SYS_write, log_file, (long)from, (long)size, 0, 0, 0);
        if (written <= 0) return;
        from += written;
        size -= written;
    }
}

static void put_file(const char *path) {
    static char block[1 << 16];
    int handle = (int)disk_raw(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    long n;
    if (handle < 0) return;
    while ((n = disk_raw(SYS_read, handle, (long)block, sizeof block, 0, 0, 0)) > 0) put(block, n);
    disk_raw(SYS_close, handle, 0, 0, 0, 0, 0);
}

static uint64_t size_of(const char *path) {
    struct stat about;
    return disk_raw(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0) < 0 ? 0 : about.st_size;
}

static uint64_t inode_of(const char *path) {
    struct stat about;
    return disk_raw(SYS_newfstatat, AT_FDCWD, (long)path, (long)&about, AT_SYMLINK_NOFOLLOW, 0, 0) < 0 ? 0 : about.st_ino;
}

/* The errno of this call, negative; 0 if it works, 1 if it writes half. */
static int fault(int op, int *named) {
    long number = ++calls;
    int takes_space = op != UNLINK && op != RMDIR && op != CLOSE && op != RENAME;
    if (number == at) {
        *named = kind;
        if (kind == FULL) full = 1;
        if (kind == IO) return -EIO;
        if (kind == INTERRUPT) return -EINTR;
        if (kind == SHORT && op == WRITE) return 1;
    }
    return full && (takes_space || number == at) ? -ENOSPC : 0;
}

static long call(int op, long number, long *a, const char *path, const char *other, int handle) {
    struct stat about = {0};
    Record record = {.op = op};
    if (handle >= 0) disk_raw(SYS_fstat, handle, (long)&about, 0, 0, 0, 0);
    int code = fault(op, (int *)&record.fault);
    long half = 0;
    struct iovec part;
    if (op == UNLINK || op == RMDIR) record.inode = inode_of(path);
    if (op == OPEN) record.size = inode_of(path);
    if (op == CLOSE && code < 0) { /* the handle is gone all the same */
        disk_raw(number, a[0], 0, 0, 0, 0, 0);
        record.result = code;
    } else if (code < 0) {
        record.result = code;
    } else if (code == 1 && number == SYS_writev) {
        part = *(struct iovec *)a[1];
        part.iov_len = (part.iov_len + 1) / 2;
        record.result = disk_raw(number, a[0], (long)&part, 1, 0, 0, 0);
    } else if (code == 1) {
        half = (a[2] + 1) / 2;
        record.result = disk_raw(number, a[0], a[1], half, a[3], a[4], a[5]);
    } else {
        record.result = disk_raw(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    if (log_file < 0) return record.result;
    if (op == OPEN) record.flags = number == SYS_open ? a[1] : number == SYS_creat ? O_CREAT | O_TRUNC | O_WRONLY : a[2];
    if (handle >= 0) record.inode = about.st_ino;
    else if (op != UNLINK && op != RMDIR) record.inode = inode_of(other ? other : path);
    if (op == WRITE && record.result > 0) {
        int positional = number == SYS_pwrite64 || number == SYS_pwritev || number == SYS_pwritev2;
        record.offset = positional ? a[3] : disk_raw(SYS_lseek, a[0], 0, SEEK_CUR, 0, 0, 0) - record.result;
        record.data_size = (uint32_t)record.result;
    }
    if (number == SYS_renameat2) record.flags = a[4];
    if (op == TRUNCATE) record.size = handle < 0 ? size_of(path) : (disk_raw(SYS_fstat, handle, (long)&about, 0, 0, 0, 0), (uint64_t)about.st_size);
    if (op == SYNC && record.result == 0 && (handle < 0 || S_ISREG(about.st_mode))) record.data_size = (uint32_t)size_of(path);
    record.path_size = strlen(path);
    record.other_size = other ? strlen(other) : 0;
    put(&record, sizeof record);
    put(path, record.path_size);
    if (other) put(other, record.other_size);
    if (op == SYNC && record.data_size) put_file(path);
    if (op == WRITE && record.data_size) {
        if (number == SYS_write || number == SYS_pwrite64) put((void *)a[1], record.data_size);
        else {
            size_t left = record.data_size;
            for (struct iovec *of = (struct iovec *)a[1]; left; of++) {
                size_t size = of->iov_len < left ? of->iov_len : left;
                put(of->iov_base, size);
                left -= size;
            }
        }
    }
    return record.result;
}

static long handled(long number, long *a) {
    static char path[PATH_MAX], other[PATH_MAX];
#define PASS disk_raw(number, a[0], a[1], a[2], a[3], a[4], a[5])
#define NAMED(op, parent, name) \
    return absolute(parent, (char *)name, path) && inside(path) ? call(op, number, a, path, NULL, -1) : PASS
#define TWO(op, parent, name, parent2, name2) \
    return absolute(parent, (char *)name, path) && absolute(parent2, (char *)name2, other) && (inside(path) || inside(other)) \
        ? call(op, number, a, path, other, -1) : PASS
#define HANDLE(op) return path_of(a[0], path) && inside(path) ? call(op, number, a, path, NULL, (int)a[0]) : PASS
    switch (number) {
        case SYS_open: case SYS_creat: NAMED(OPEN, AT_FDCWD, a[0]);
        case SYS_openat: NAMED(OPEN, a[0], a[1]);
        case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_pwritev: case SYS_pwritev2: HANDLE(WRITE);
        case SYS_ftruncate: case SYS_fallocate: HANDLE(TRUNCATE);
        case SYS_truncate: NAMED(TRUNCATE, AT_FDCWD, a[0]);
        case SYS_fsync: case SYS_fdatasync: HANDLE(SYNC);
        case SYS_close:
            if (a[0] == log_file) return -EBADF;
            if ((disk_raw(SYS_fcntl, a[0], F_GETFL, 0, 0, 0, 0) & O_ACCMODE) == O_RDONLY) return PASS;
            HANDLE(CLOSE);
        case SYS_rename: TWO(RENAME, AT_FDCWD, a[0], AT_FDCWD, a[1]);
        case SYS_renameat: case SYS_renameat2: TWO(RENAME, a[0], a[1], a[2], a[3]);
        case SYS_link: TWO(LINK, AT_FDCWD, a[0], AT_FDCWD, a[1]);
        case SYS_linkat: TWO(LINK, a[0], a[1], a[2], a[3]);
        case SYS_symlink: NAMED(SYMLINK, AT_FDCWD, a[1]);
        case SYS_symlinkat: NAMED(SYMLINK, a[1], a[2]);
        case SYS_unlink: NAMED(UNLINK, AT_FDCWD, a[0]);
        case SYS_unlinkat: NAMED((a[2] & AT_REMOVEDIR) ? RMDIR : UNLINK, a[0], a[1]);
        case SYS_rmdir: NAMED(RMDIR, AT_FDCWD, a[0]);
        case SYS_mkdir: NAMED(MKDIR, AT_FDCWD, a[0]);
        case SYS_mkdirat: NAMED(MKDIR, a[0], a[1]);
        case SYS_copy_file_range: case SYS_sendfile: /* callers fall back to writes, which are recorded */
            return path_of(number == SYS_sendfile ? a[0] : a[2], path) && inside(path) ? -EINVAL : PASS;
        case SYS_mmap: {
            if (!(a[2] & PROT_WRITE) || !path_of(a[4], path) || !inside(path)) return PASS;
            long begin = call(MAP, number, a, path, NULL, (int)a[4]);
            if (begin > 0 && n_maps < 64) {
                maps[n_maps].begin = (char *)begin;
                maps[n_maps].end = (char *)begin + a[1];
                strcpy(maps[n_maps++].path, path);
            }
            return begin;
        }
        case SYS_msync:
            for (int i = n_maps; i--;)
                if ((char *)a[0] >= maps[i].begin && (char *)a[0] < maps[i].end) return call(SYNC, number, a, maps[i].path, NULL, -1);
            return PASS;
        default: return PASS;
    }
}

static void on_call(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    int saved = errno;
    (void)number;
    while (__sync_lock_test_and_set(&busy, 1)) {}
    long result = handled(info->si_syscall, a);
    __sync_lock_release(&busy);
    errno = saved;
    r[REG_RAX] = result;
}

/* Watch `path`. Call number `fail` from 1, none for 0, fails as `how` says; records go to the file `record`, none where it is empty. */
int disk_watch(const char *path, const char *record, long fail, int how) {
    static const int trapped[] = {
        SYS_creat, SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev, SYS_pwritev2, SYS_ftruncate, SYS_fallocate, SYS_truncate,
        SYS_fsync, SYS_fdatasync, SYS_close, SYS_rename, SYS_renameat, SYS_renameat2, SYS_link, SYS_linkat, SYS_symlink,
        SYS_symlinkat, SYS_unlink, SYS_unlinkat, SYS_rmdir, SYS_mkdir, SYS_mkdirat, SYS_copy_file_range, SYS_sendfile, SYS_msync,
    };
    enum { N = sizeof trapped / sizeof *trapped };
    struct sock_filter code[24 + 2 * N];
    unsigned n = 0;
    uint64_t begin = (uint64_t)&disk_raw, end = (uint64_t)disk_raw_end;
    struct sigaction action = {.sa_flags = SA_SIGINFO};
#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ADD(...) code[n++] = (struct sock_filter)__VA_ARGS__
    strncpy(folder, path, sizeof folder - 1);
    folder_size = strlen(folder);
    at = fail;
    kind = how;
    if (record[0]) {
        int handle = open(record, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        log_file = fcntl(handle, F_DUPFD_CLOEXEC, 900);
        close(handle);
        if (log_file < 0) return -1;
    }
    action.sa_sigaction = on_call;
    sigfillset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL)) return -1;
    /* Calls of the handler pass. */
    ADD(LOAD(instruction_pointer));
    ADD(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)begin, 0, 4));
    ADD(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)end, 3, 0));
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(begin >> 32), 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(LOAD(nr));
    for (int i = 0; i < N; i++) {
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, trapped[i], 0, 1));
        ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    }
    /* Opened to write, or mapped to be shared. */
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 0, 2));
    ADD(LOAD(args[1]));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 6, 7));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 2));
    ADD(LOAD(args[2]));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 3, 4));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3));
    ADD(LOAD(args[3]));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {n, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* Calls so far. */
long disk_calls(void) { return calls; }
