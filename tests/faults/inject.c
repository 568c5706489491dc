/* Runs a command and counts its system calls that change files below one folder; at one of them it
 * kills the command, or lets the call fail.
 *
 *   inject FOLDER LOG none|kill|EIO|ENOSPC|ENOSPC-once N COMMAND...
 *
 * Calls are counted from 1. "kill" sends SIGKILL to the command and its children before call N takes
 * place. "EIO" lets call N fail and no other. "ENOSPC" lets call N fail and every later one that
 * needs room, as a full disk does; "ENOSPC-once" lets only call N fail. LOG gets one line for each call: number, name, paths, separated by
 * tabs. The exit status is the command's, 128 + SIGNAL if a signal ended it, and 126 if this program
 * could not do its work.
 *
 * The kernel reports the calls (seccomp's user notification, Linux 5.5), so a call that does not go
 * through the C library counts too, and so does one of a thread or a child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where a call names what it changes: a descriptor, a path, or a descriptor of a folder and a path. */
enum place { FD, PATH, AT, NOWHERE };

struct call {
    int number;
    const char *name;
    enum place place;
    int argument;  /* of the descriptor or the path that is changed */
    int second;    /* of another path, or -1 */
    int needs_room;
};

static const struct call CALLS[] = {
#ifdef SYS_open
    {SYS_open, "open", PATH, 0, -1, 1},
    {SYS_creat, "creat", PATH, 0, -1, 1},
    {SYS_rename, "rename", PATH, 0, 1, 0},
    {SYS_link, "link", PATH, 0, 1, 1},
    {SYS_symlink, "symlink", PATH, 1, -1, 1},
    {SYS_unlink, "unlink", PATH, 0, -1, 0},
    {SYS_rmdir, "rmdir", PATH, 0, -1, 0},
    {SYS_mkdir, "mkdir", PATH, 0, -1, 1},
    {SYS_mknod, "mknod", PATH, 0, -1, 1},
    {SYS_chmod, "chmod", PATH, 0, -1, 0},
#endif
    {SYS_openat, "openat", AT, 0, -1, 1},
#ifdef SYS_renameat
    {SYS_renameat, "renameat", AT, 0, 2, 0},
#endif
    {SYS_renameat2, "renameat2", AT, 0, 2, 0},
    {SYS_linkat, "linkat", AT, 0, 2, 1},
    {SYS_symlinkat, "symlinkat", AT, 1, -1, 1},
    {SYS_unlinkat, "unlinkat", AT, 0, -1, 0},
    {SYS_mkdirat, "mkdirat", AT, 0, -1, 1},
    {SYS_mknodat, "mknodat", AT, 0, -1, 1},
    {SYS_fchmodat, "fchmodat", AT, 0, -1, 0},
    {SYS_fchmod, "fchmod", FD, 0, -1, 0},
    {SYS_truncate, "truncate", PATH, 0, -1, 1},
    {SYS_ftruncate, "ftruncate", FD, 0, -1, 1},
    {SYS_fallocate, "fallocate", FD, 0, -1, 1},
    {SYS_write, "write", FD, 0, -1, 1},
    {SYS_writev, "writev", FD, 0, -1, 1},
    {SYS_pwrite64, "pwrite64", FD, 0, -1, 1},
    {SYS_pwritev, "pwritev", FD, 0, -1, 1},
    {SYS_pwritev2, "pwritev2", FD, 0, -1, 1},
    {SYS_copy_file_range, "copy_file_range", FD, 2, -1, 1},
    {SYS_sendfile, "sendfile", FD, 0, -1, 1},
    {SYS_splice, "splice", FD, 2, -1, 1},
    {SYS_fsync, "fsync", FD, 0, -1, 0},
    {SYS_fdatasync, "fdatasync", FD, 0, -1, 0},
    {SYS_sync_file_range, "sync_file_range", FD, 0, -1, 0},
    {SYS_mmap, "mmap", FD, 4, -1, 1},
    /* Their writes cannot be counted: a command that uses them cannot be tested this way. */
    {SYS_openat2, "openat2", NOWHERE, 0, -1, 0},
    {SYS_io_uring_setup, "io_uring_setup", NOWHERE, 0, -1, 0},
};
#define COUNT (sizeof CALLS / sizeof CALLS[0])

static void die(const char *what) {
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(126);
}

#define LOW(i) offsetof(struct seccomp_data, args[i]) /* the lower half, on little-endian machines */

/* Adds the instructions that report a call, under a condition on its flags if it needs one. */
static size_t add_rule(struct sock_filter *code, const struct call *call) {
    const unsigned report = SECCOMP_RET_USER_NOTIF, allow = SECCOMP_RET_ALLOW;
    size_t n = 0;
    struct sock_filter body[8];
    int flags = call->number == SYS_openat ? 2 : -1;
#ifdef SYS_open
    if (call->number == SYS_open) flags = 1;
#endif
    if (flags >= 0) { /* only what creates or empties a file */
        body[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(flags));
        body[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K,
            O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY), 1, 0);
        body[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, allow);
    } else if (call->number == SYS_mmap) { /* only what writes into a file */
        body[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(2));
        body[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 1, 0);
        body[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, allow);
        body[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(3));
        body[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 1, 0);
        body[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, allow);
    }
    body[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, report);
    code[0] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->number, 0, n);
    memcpy(code + 1, body, n * sizeof *body);
    return n + 1;
}

/* Asks the kernel to report the calls of this process; returns the descriptor that reports. */
static int listen_to_myself(void) {
    static struct sock_filter code[COUNT * 9 + 2];
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT; i++) n += add_rule(code + n, &CALLS[i]);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("prctl");
    int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (fd < 0) die("seccomp");
    return fd;
}

static void send_fd(int socket, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
        .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(socket, &message, 0) < 0) die("sendmsg");
}

static int receive_fd(int socket) {
    int fd;
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
        .msg_controllen = sizeof control};
    if (recvmsg(socket, &message, 0) <= 0 || !CMSG_FIRSTHDR(&message)) {
        errno = EPROTO;
        die("the command did not start");
    }
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* What a link below /proc/PID leads to. */
static void link_of(char *path, pid_t pid, const char *format, ...) {
    char name[64], tail[40];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tail, sizeof tail, format, arguments);
    va_end(arguments);
    snprintf(name, sizeof name, "/proc/%d/%s", pid, tail);
    ssize_t length = readlink(name, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* The string at an address of the command. */
static void string_at(char *text, pid_t pid, uint64_t address) {
    size_t length = 0;
    while (length < PATH_MAX - 1) { /* no further than the page, which may be the last one */
        size_t part = 4096 - (address + length) % 4096;
        if (part > PATH_MAX - 1 - length) part = PATH_MAX - 1 - length;
        struct iovec here = {text + length, part}, there = {(void *)(uintptr_t)(address + length), part};
        ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
        if (got <= 0) break;
        if (memchr(text + length, 0, got)) return;
        length += got;
    }
    text[length] = 0;
}

/* The path that the call names, from the root. */
static void path_of(char *path, const struct seccomp_notif *event, enum place place, int argument) {
    char base[PATH_MAX], tail[PATH_MAX];
    int fd = (int)event->data.args[argument];
    path[0] = 0;
    if (place == NOWHERE) return;
    if (place == FD) {
        link_of(path, event->pid, "fd/%d", fd);
        return;
    }
    string_at(tail, event->pid, event->data.args[place == AT ? argument + 1 : argument]);
    if (tail[0] == '/') {
        strcpy(path, tail);
        return;
    }
    if (place == PATH || fd == AT_FDCWD) link_of(base, event->pid, "cwd");
    else link_of(base, event->pid, "fd/%d", fd);
    if (tail[0]) snprintf(path, 2 * PATH_MAX, "%s/%s", base, tail[0] == '.' && tail[1] == '/' ? tail + 2 : tail);
    else strcpy(path, base);
}

static int lies_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static const struct call *call_of(int number) {
    for (size_t i = 0; i < COUNT; i++)
        if (CALLS[i].number == number) return &CALLS[i];
    errno = ENOSYS;
    die("a call that was not asked for");
    return NULL;
}

struct plan {
    const char *folder;
    FILE *log;
    int kill, error, stays_full;
    long at, seen;
};

/* Counts one call. Returns the error to let it fail with, 0 to let it pass, -1 to kill. */
static int judge(struct plan *plan, const struct seccomp_notif *event) {
    static char path[2 * PATH_MAX], second[2 * PATH_MAX];
    const struct call *call = call_of(event->data.nr);
    path_of(path, event, call->place, call->argument);
    second[0] = 0;
    if (call->second >= 0) path_of(second, event, call->place, call->second);
    if (call->place == NOWHERE) {
        fprintf(plan->log, "0\t%s\t\t\n", call->name);
        return ENOSYS;
    }
    if (!lies_below(path, plan->folder) && !lies_below(second, plan->folder)) return 0;
    plan->seen++;
    fprintf(plan->log, "%ld\t%s\t%s\t%s\n", plan->seen, call->name, path, second);
    fflush(plan->log);
    if (plan->at == 0 || plan->seen < plan->at) return 0;
    if (plan->seen == plan->at) return plan->kill ? -1 : plan->error;
    return plan->stays_full && call->needs_room ? ENOSPC : 0;
}

static void watch(int listener, pid_t child, struct plan *plan) {
    struct seccomp_notif_sizes sizes;
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes)) die("seccomp");
    struct seccomp_notif *event = malloc(sizes.seccomp_notif);
    struct seccomp_notif_resp *answer = malloc(sizes.seccomp_notif_resp);
    if (!event || !answer) die("malloc");
    for (;;) {
        struct pollfd ready = {listener, POLLIN, 0};
        if (poll(&ready, 1, -1) < 0) die("poll");
        if (!(ready.revents & POLLIN)) return; /* every process has ended */
        memset(event, 0, sizes.seccomp_notif);
        memset(answer, 0, sizes.seccomp_notif_resp);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, event)) {
            if (errno == ENOENT || errno == EINTR) continue; /* the caller died meanwhile */
            die("receive");
        }
        int error = judge(plan, event);
        if (error < 0) {
            kill(-child, SIGKILL);
            return;
        }
        answer->id = event->id;
        answer->error = -error;
        answer->flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer) && errno != ENOENT) die("answer");
    }
}

int main(int count, char **arguments) {
    if (count < 6) {
        fprintf(stderr, "usage: inject FOLDER LOG none|kill|EIO|ENOSPC|ENOSPC-once N COMMAND...\n");
        return 126;
    }
    struct plan plan = {.folder = realpath(arguments[1], NULL), .log = fopen(arguments[2], "we")};
    if (!plan.folder || !plan.log) die(arguments[1]);
    plan.kill = strcmp(arguments[3], "kill") == 0;
    plan.error = strcmp(arguments[3], "EIO") == 0 ? EIO : strncmp(arguments[3], "ENOSPC", 6) == 0 ? ENOSPC : 0;
    plan.stays_full = strcmp(arguments[3], "ENOSPC") == 0;
    plan.at = atol(arguments[4]);
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) die("socketpair");
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever ends the injector ends the command */
        int listener = listen_to_myself();
        send_fd(sockets[1], listener);
        close(listener);
        execv(arguments[5], arguments + 5);
        _exit(126);
    }
    close(sockets[1]);
    watch(receive_fd(sockets[0]), child, &plan);
    int status;
    if (waitpid(child, &status, 0) < 0) die("waitpid");
    fclose(plan.log);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
