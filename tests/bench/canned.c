/* The load generator's floor: a POP3 server that has nothing to do. It answers each command from memory, at once.
 *
 *     canned PORT MESSAGES OCTETS
 *
 * What a client measures here is the client, the loopback and one wake-up a command: less than this no server can show.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 256, LINE = 512 };

static struct { char line[LINE]; size_t length; } clients[MOST];
static struct pollfd polled[MOST];
static int in_use;

static void send_all(int fd, const char *octets, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, octets, length, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the client has left: the next read says so */
        octets += sent, length -= sent;
    }
}

int main(int count, char **words)
{
    if (count != 4) return 2;
    long messages = atol(words[2]), octets = atol(words[3]);
    int listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in here = {AF_INET, htons(atoi(words[1])), {htonl(INADDR_ANY)}, {0}};
    char *list = malloc(messages * 24 + 64), *message = malloc(octets + 64), *end = list;
    end += sprintf(end, "+OK\r\n");
    for (long i = 1; i <= messages; i++) end += sprintf(end, "%ld %ld\r\n", i, 1000000000 + i);
    end += sprintf(end, ".\r\n");
    strcpy(message, "+OK\r\n");
    for (long i = 5; i < octets + 5; i++) message[i] = i % 74 == 72 ? '\r' : i % 74 == 73 ? '\n' : 'x';
    strcpy(message + octets + 5, "\r\n.\r\n");
    size_t list_length = end - list, message_length = octets + 10;

    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 1024)) return 1;
    polled[in_use++] = (struct pollfd){listening, POLLIN, 0};
    while (poll(polled, in_use, -1) > 0) {
        for (int i = in_use - 1; i > 0; i--) {
            if (!polled[i].revents) continue;
            int fd = polled[i].fd, leave = 0;
            ssize_t got = recv(fd, clients[i].line + clients[i].length, LINE - clients[i].length, 0);
            if (got <= 0) leave = 1;
            else clients[i].length += got;
            if (!leave && clients[i].line[clients[i].length - 1] == '\n') {
                const char *verb = clients[i].line;
                if (!strncasecmp(verb, "RETR", 4)) send_all(fd, message, message_length);
                else if (!strncasecmp(verb, "UIDL", 4) || !strncasecmp(verb, "LIST", 4)) send_all(fd, list, list_length);
                else send_all(fd, "+OK\r\n", 5);
                leave = !strncasecmp(verb, "QUIT", 4);
                clients[i].length = 0;
            }
            if (leave || clients[i].length == LINE) {
                close(fd);
                in_use--;
                polled[i] = polled[in_use], clients[i] = clients[in_use];
            }
        }
        if (polled[0].revents && in_use < MOST) {
            int fd = accept(listening, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            polled[in_use] = (struct pollfd){fd, POLLIN, 0};
            clients[in_use++].length = 0;
            send_all(fd, "+OK\r\n", 5);
        }
    }
    return 1;
}
