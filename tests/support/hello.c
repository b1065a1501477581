/* The least a unit can run: one line to the client that systemd passed on, and the end. Built static for any tree.
   Says READY=1 where the unit is Type=notify, as popad does, so that the same unit file can be measured. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(void)
{
    static const char greeting[] = "+OK hello\r\n", ready[] = "READY=1";
    const char *path = getenv("NOTIFY_SOCKET");
    int client = getenv("LISTEN_FDS") ? 3 : 0;

    if (write(client, greeting, sizeof greeting - 1) < 0)
        return 1;
    if (path) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        strncpy(to.sun_path, path, sizeof to.sun_path - 1);
        if (notify < 0 || sendto(notify, ready, sizeof ready - 1, 0, (struct sockaddr *)&to, sizeof to) < 0)
            return 1;
    }
    return 0;
}
