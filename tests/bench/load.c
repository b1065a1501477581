/* The load generator: POP3 clients in a closed loop, each a process that waits for every reply, as mail programs do.
 *
 *     load PORT CLIENTS SESSIONS SECONDS LIMIT PATIENCE NET <script
 *
 * The script is the session: lines "LABEL KIND COMMAND", KIND "." for a reply of one line and ":" for one of many;
 * %c in a command is the client's number. Sessions are begun until there have been SESSIONS of them or SECONDS are
 * over. LIMIT seconds cut a session short (0: none), PATIENCE seconds without an octet end it. Each session has a
 * source address of its own, 127.NET.x.y: servers count addresses.
 *
 * A session is one line of JSON: when it began and ended (ns, one clock for all), and for each label, "greeting" and
 * "end" (of the stream) among them, [commands, ns, octets received]. The last line is what the clients themselves cost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COMMANDS = 250000, MOST_LABELS = 16, BUFFER = 1 << 18, REPLY_LINE = 600 };

struct step { int label; int many; char *command; size_t length; };
struct sum { long commands; long long ns, octets; };

static struct step steps[MOST_COMMANDS];
static int step_count, label_count;
static const char *labels[MOST_LABELS];
static struct sum sums[MOST_LABELS];
static char buffer[BUFFER], failure[REPLY_LINE + 200];
static atomic_long *begun_sessions;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int label_number(const char *name)
{
    for (int i = 0; i < label_count; i++)
        if (strcmp(labels[i], name) == 0) return i;
    if (label_count == MOST_LABELS) exit((fputs("too many labels\n", stderr), 2));
    labels[label_count] = strdup(name);
    return label_count++;
}

static void read_script(void)
{
    char line[400], label[40], kind;
    int at;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (step_count == MOST_COMMANDS || sscanf(line, "%39s %c %n", label, &kind, &at) != 2)
            exit((fputs("wrong script\n", stderr), 2));
        steps[step_count++] = (struct step){label_number(label), kind == ':', strdup(line + at), 0};
    }
}

/* Each command as it goes out, complete in one write. */
static void prepare(int client)
{
    for (struct step *step = steps; step < steps + step_count; step++) {
        char *mark = strstr(step->command, "%c"), *made;
        int head = mark ? (int)(mark - step->command) : (int)strlen(step->command);
        int length = mark ? asprintf(&made, "%.*s%d%s\r\n", head, step->command, client, mark + 2)
                          : asprintf(&made, "%s\r\n", step->command);
        if (length < 0) die("asprintf");
        step->command = made;
        step->length = length;
    }
}

static int failed(const char *form, ...)
{
    va_list arguments;
    va_start(arguments, form);
    vsnprintf(failure, sizeof failure, form, arguments);
    va_end(arguments);
    for (char *c = failure; *c; c++)
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\') *c = ' ';
    return -1;
}

static int connected(int port, int net, long number, double patience)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct timeval limit = {(time_t)patience, 0};
    struct sockaddr_in to = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}}, from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(127u << 24 | (unsigned)net << 16 | (1 + number / 250 % 250) << 8 | (1 + number % 250));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) || connect(fd, (struct sockaddr *)&to, sizeof to)) {
        failed("connect: %s", strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* Read one reply; its octets, or -1. Nothing is behind it, as nothing is asked before it has come. A reply of many
 * lines ends in a dot alone; dot-stuffing keeps these five octets out of its lines. */
static long long reply(int fd, int many, const char *name)
{
    long long octets = 0;
    char start[REPLY_LINE] = "", tail[5] = "";
    for (;;) {
        ssize_t got = recv(fd, buffer, BUFFER, 0);
        if (got <= 0) return failed("%s: %s", name, got == 0 ? "closed" : strerror(errno));
        if (octets < REPLY_LINE - 1) {
            size_t room = REPLY_LINE - 1 - octets;
            memcpy(start + octets, buffer, (size_t)got < room ? (size_t)got : room);
        }
        octets += got;
        if (got >= 5) memcpy(tail, buffer + got - 5, 5);
        else memmove(tail, tail + got, 5 - got), memcpy(tail + 5 - got, buffer, got);
        if (start[0] == '-' && tail[4] == '\n') return failed("%s: %s", name, start);
        if (many ? memcmp(tail, "\r\n.\r\n", 5) == 0 : tail[4] == '\n') break;
    }
    return start[0] == '+' ? octets : failed("%s: %s", name, start);
}

static void add(int label, long long since, long long octets)
{
    sums[label].commands++;
    sums[label].ns += now() - since;
    sums[label].octets += octets;
}

/* One session. Returns 1 when LIMIT cut it short, 0 when it came to its end, -1 after a failure. */
static int session(int fd, long long begun, double limit, int greeting, int end)
{
    long long octets = reply(fd, 0, "greeting");
    if (octets < 0) return -1;
    add(greeting, begun, octets);
    for (struct step *step = steps; step < steps + step_count; step++) {
        long long since = now();
        if (limit > 0 && since - begun > limit * 1e9) return 1;
        if (send(fd, step->command, step->length, MSG_NOSIGNAL) != (ssize_t)step->length)
            return failed("%s: %s", labels[step->label], strerror(errno));
        if ((octets = reply(fd, step->many, labels[step->label])) < 0) return -1;
        add(step->label, since, octets);
    }
    long long since = now();
    while (recv(fd, buffer, BUFFER, 0) > 0) continue;
    add(end, since, 0);
    return 0;
}

static void tell(int client, long long begun, long long ended, int how)
{
    char line[4096];
    int length = snprintf(line, sizeof line, "{\"client\": %d, \"begun\": %lld, \"ended\": %lld, \"cut\": %s, \"error\": \"%s\", \"steps\": {",
                          client, begun, ended, how == 1 ? "true" : "false", how < 0 ? failure : "");
    for (int i = 0, said = 0; i < label_count; i++)
        if (sums[i].commands)
            length += snprintf(line + length, sizeof line - length, "%s\"%s\": [%ld, %lld, %lld]", said++ ? ", " : "",
                               labels[i], sums[i].commands, sums[i].ns, sums[i].octets);
    length += snprintf(line + length, sizeof line - length, "}}\n");
    if (write(1, line, length) != length) die("write"); /* whole: shorter than PIPE_BUF */
}

int main(int count, char **words)
{
    if (count != 8) exit((fputs("load PORT CLIENTS SESSIONS SECONDS LIMIT PATIENCE NET <script\n", stderr), 2));
    int port = atoi(words[1]), clients = atoi(words[2]), net = atoi(words[7]);
    long most = atol(words[3]);
    double seconds = atof(words[4]), limit = atof(words[5]), patience = atof(words[6]);
    read_script();
    int greeting = label_number("greeting"), end = label_number("end");
    begun_sessions = mmap(NULL, sizeof *begun_sessions, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (begun_sessions == MAP_FAILED) die("mmap");
    long long start = now();
    for (int client = 0; client < clients; client++) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (pid) continue;
        prepare(client);
        for (long number; now() - start < seconds * 1e9 && (number = atomic_fetch_add(begun_sessions, 1)) < most;) {
            memset(sums, 0, sizeof sums);
            long long begun = now();
            int fd = connected(port, net, number, patience);
            int how = fd < 0 ? -1 : session(fd, begun, limit, greeting, end);
            tell(client, begun, now(), how);
            if (fd >= 0) close(fd);
            if (how < 0) break;
        }
        _exit(0);
    }
    while (wait(NULL) > 0) continue;
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    printf("{\"cpu\": %f}\n", used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
