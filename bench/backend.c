/*
 * A backend that is never the bottleneck: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 *     backend [PORT]        prints the port as a line of JSON, and serves until it is ended
 *
 * The body of a request needs a Content-Length and is thrown away.  The path says what comes back:
 *
 *     /small                               a short JSON answer
 *     /stamped?after_ms=N                  the same after N ms, with the times at which the request came
 *                                          and the answer went
 *     /stream?count=N&pace_ms=P            N server-sent events, one every P ms, from a random phase;
 *                                          each carries the time at which it was sent
 *     /silent                              one event, and then nothing more
 *     /sink                                how many bytes the body had
 *     /huge?bytes=N                        N bytes
 *     /closing?requests=K&idle_ms=I&announce=A
 *                                          a short answer; the Kth of a connection is its last one,
 *                                          which Connection: close says beforehand if A is 1; a
 *                                          connection that is idle is closed after 0 to I ms
 *
 * What stands behind it in a path does not matter, and its parameters may be parted with slashes as
 * well, for those who put something of their own behind it: /stream/count=5/chat/completions.
 */
#include "common.h"

enum state { READING, STREAMING, SILENT, POURING, DELAYED };

struct conn {
    int fd, asked_events, served, timer; /* timer: its place in the heap, -1 if it is in none */
    enum state state;
    int closing;            /* close when the output has gone */
    uint64_t due, pace;     /* of the next event, or of the silent close */
    uint64_t received;      /* when the request came that is answered in DELAYED */
    uint64_t left, body;    /* of the request's body: to come, in all; of the answer in POURING */
    long events;            /* to come */
    int in_body;
    char path[256];
    size_t have, out_have, out_sent;
    char in[8192], out[4096];
};

static const char EVENT[] =
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word ns:%llu\"},"
    "\"logprobs\":null,\"finish_reason\":null}]}\n\n";
static const char SMALL[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":"
    "\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello!\"},"
    "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2,"
    "\"total_tokens\":10}}\n";
static char block[256 * 1024];
static int poller;

/* ---- timers: a heap of connections, the one that is due first on top ---- */

static struct conn **heap;
static int heap_size, heap_room;

static void place(int at, struct conn *conn) {
    heap[at] = conn;
    conn->timer = at;
}

static void sift(int at) {
    struct conn *conn = heap[at];
    for (; at && heap[(at - 1) / 2]->due > conn->due; at = (at - 1) / 2)
        place(at, heap[(at - 1) / 2]);
    for (int child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= conn->due) break;
        place(at, heap[child]);
    }
    place(at, conn);
}

static void cancel(struct conn *conn) {
    int at = conn->timer;
    if (at < 0) return;
    conn->timer = -1;
    if (at == --heap_size) return;
    heap[at] = heap[heap_size];
    sift(at);
}

static void schedule(struct conn *conn, uint64_t due) {
    cancel(conn);
    if (heap_size == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 1024;
        if (!(heap = realloc(heap, sizeof *heap * (size_t)heap_room))) die("realloc");
    }
    conn->due = due;
    heap[heap_size] = conn;
    sift(heap_size++);
}

/* ---- connections ---- */

static void drop(struct conn *conn) {
    cancel(conn);
    close(conn->fd);
    conn->fd = -1; /* freed after the round of events: who called this still looks at it */
}

static void watch(struct conn *conn, int writable) {
    uint32_t wanted = EPOLLIN | (writable ? EPOLLOUT : 0);
    if ((int)wanted == conn->asked_events) return;
    struct epoll_event event = {.events = wanted, .data.ptr = conn};
    epoll_ctl(poller, EPOLL_CTL_MOD, conn->fd, &event);
    conn->asked_events = (int)wanted;
}

static void flush(struct conn *conn) {
    for (;;) {
        const char *from = conn->out + conn->out_sent;
        size_t size = conn->out_have - conn->out_sent;
        int pouring = !size && conn->state == POURING;
        if (pouring) {
            from = block;
            size = conn->left < sizeof block ? conn->left : sizeof block;
        }
        if (!size) break;
        ssize_t sent = write(conn->fd, from, size);
        if (sent < 0 && errno == EAGAIN) return watch(conn, 1);
        if (sent < 0) return drop(conn);
        if (pouring) {
            conn->left -= (uint64_t)sent;
            if (!conn->left) conn->state = READING;
        } else {
            conn->out_sent += (size_t)sent;
        }
    }
    conn->out_have = conn->out_sent = 0;
    if (conn->closing) return drop(conn);
    watch(conn, 0);
}

static long parameter(const struct conn *conn, const char *name, long otherwise) {
    size_t size = strlen(name);
    for (const char *at = conn->path; (at = strpbrk(at, "/?&"));) {
        at++;
        if (!strncmp(at, name, size) && at[size] == '=') return atol(at + size + 1);
    }
    return otherwise;
}

static void answer(struct conn *conn, int status, const char *type, const char *text) {
    conn->out_have = (size_t)snprintf(
        conn->out, sizeof conn->out,
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n%s", status,
        status == 200 ? "OK" : "Not so", type, strlen(text),
        conn->closing == 2 ? "Connection: close\r\n" : "", text);
    flush(conn);
}

static void send_event(struct conn *conn) {
    char text[512];
    int size = snprintf(text, sizeof text, EVENT, (unsigned long long)now_ns());
    size_t room = sizeof conn->out - conn->out_have;
    conn->out_have +=
        (size_t)snprintf(conn->out + conn->out_have, room, "%x\r\n%s\r\n", (unsigned)size, text);
}

static void begin_stream(struct conn *conn) {
    conn->out_have = (size_t)snprintf(
        conn->out, sizeof conn->out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
    send_event(conn);
    conn->state = SILENT;
    if (!strncmp(conn->path, "/stream", 7)) {
        conn->state = STREAMING;
        conn->events = parameter(conn, "count", 100) - 1;
        conn->pace = (uint64_t)parameter(conn, "pace_ms", 20) * MILLISECOND;
        schedule(conn, now_ns() + random_below(conn->pace) + 1);
    }
    flush(conn);
}

static void next_event(struct conn *conn) {
    uint64_t due = conn->due + conn->pace; /* from when it was due: a late one delays no other */
    if (conn->out_have) return schedule(conn, due); /* its client reads too slowly */
    if (conn->events > 0) {
        conn->events--;
        send_event(conn);
        schedule(conn, due);
    } else {
        cancel(conn);
        conn->out_have = (size_t)sprintf(conn->out, "0\r\n\r\n");
        conn->state = READING;
    }
    flush(conn);
}

static void answer_stamped(struct conn *conn) {
    char text[128];
    snprintf(text, sizeof text, "{\"came_ns\":%llu,\"went_ns\":%llu}\n",
             (unsigned long long)conn->received, (unsigned long long)now_ns());
    cancel(conn);
    conn->state = READING;
    answer(conn, 200, "application/json", text);
}

static void respond(struct conn *conn) {
    char text[64];
    conn->served++;
    if (!strncmp(conn->path, "/small", 6)) {
        answer(conn, 200, "application/json", SMALL);
    } else if (!strncmp(conn->path, "/stamped", 8)) {
        conn->received = now_ns();
        conn->state = DELAYED;
        schedule(conn, conn->received + (uint64_t)parameter(conn, "after_ms", 1) * MILLISECOND);
    } else if (!strncmp(conn->path, "/stream", 7) || !strcmp(conn->path, "/silent")) {
        begin_stream(conn);
    } else if (!strcmp(conn->path, "/sink")) {
        snprintf(text, sizeof text, "{\"bytes\":%llu}\n", (unsigned long long)conn->body);
        answer(conn, 200, "application/json", text);
    } else if (!strncmp(conn->path, "/huge", 5)) {
        conn->left = (uint64_t)parameter(conn, "bytes", 1000000);
        conn->out_have = (size_t)snprintf(
            conn->out, sizeof conn->out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
            (unsigned long long)conn->left);
        if (conn->left) conn->state = POURING;
        flush(conn);
    } else if (!strncmp(conn->path, "/closing", 8)) {
        long requests = parameter(conn, "requests", 0), idle = parameter(conn, "idle_ms", 0);
        if (requests && conn->served >= requests)
            conn->closing = parameter(conn, "announce", 0) ? 2 : 1;
        else if (idle)
            schedule(conn, now_ns() + random_below((uint64_t)idle * MILLISECOND));
        answer(conn, 200, "application/json", SMALL);
    } else {
        answer(conn, 404, "text/plain", "there is no such path\n");
    }
}

/* Take the head of a request out of what has been read; 0 if it is not all there. */
static int take_head(struct conn *conn) {
    char *end = memmem(conn->in, conn->have, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = '\0';
    const char *path = strchr(conn->in, ' ');
    const char *length = strcasestr(conn->in, "\r\ncontent-length:");
    snprintf(conn->path, sizeof conn->path, "%.*s", path ? (int)strcspn(path + 1, " \r\n") : 1,
             path ? path + 1 : "?");
    conn->body = conn->left = length ? strtoull(length + 17, NULL, 10) : 0;
    conn->in_body = 1;
    if (strcasestr(conn->in, "\r\ntransfer-encoding:"))
        snprintf(conn->path, sizeof conn->path, "/chunked-is-not-known-here");
    if (strcasestr(conn->in, "\r\nconnection: close")) conn->closing = 1;
    size_t used = (size_t)(end + 4 - conn->in);
    conn->have -= used;
    memmove(conn->in, end + 4, conn->have);
    return 1;
}

/* Go through what has been read, as far as it may be answered now. */
static void advance(struct conn *conn) {
    while (conn->fd >= 0 && conn->state == READING && !conn->out_have) {
        if (!conn->in_body) {
            if (conn->have) cancel(conn); /* not idle any more */
            if (!take_head(conn)) return;
        }
        size_t used = conn->have < conn->left ? conn->have : (size_t)conn->left;
        conn->left -= used;
        conn->have -= used;
        memmove(conn->in, conn->in + used, conn->have);
        if (conn->left) return;
        conn->in_body = 0;
        respond(conn);
    }
}

static void readable(struct conn *conn) {
    for (int turn = 0; turn < 16 && conn->fd >= 0; turn++) {
        int skip = conn->in_body && !conn->have; /* a body's bytes are thrown away at once */
        size_t room = sizeof conn->in - 1 - conn->have;
        if (!skip && !room) return drop(conn); /* a head that long is none of ours */
        size_t most = skip ? (conn->left < sizeof block ? (size_t)conn->left : sizeof block) : room;
        static char scratch[sizeof block];
        ssize_t got = read(conn->fd, skip ? scratch : conn->in + conn->have, most);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) return drop(conn);
        if (skip)
            conn->left -= (uint64_t)got;
        else
            conn->have += (size_t)got;
        advance(conn);
    }
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *conn = calloc(1, sizeof *conn);
        if (!conn) die("calloc");
        conn->fd = fd;
        conn->timer = -1;
        conn->asked_events = EPOLLIN;
        without_delay(fd);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static struct conn *dead[4096];
static int dead_count;

static void bury(struct conn *conn) { dead[dead_count++] = conn; }

int main(int count, char **words) {
    settle_in();
    run_when_woken();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = loopback(count > 1 ? atoi(words[1]) : 0);
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    memset(block, 'x', sizeof block);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[1024];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct timespec wait = {0, 0}, *until = NULL;
        if (heap_size) {
            uint64_t now = now_ns(), due = heap[0]->due;
            uint64_t pause = due > now ? due - now : 0;
            wait = (struct timespec){(time_t)(pause / SECOND), (long)(pause % SECOND)};
            until = &wait;
        }
        int ready = epoll_pwait2(poller, events, 1024, until, NULL);
        if (ready < 0 && errno != EINTR) die("epoll_pwait2");
        dead_count = 0;
        for (int i = 0; i < ready; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn) {
                accept_all(listener);
                continue;
            }
            if (conn->fd >= 0 && events[i].events & EPOLLOUT) {
                flush(conn);
                if (conn->fd >= 0) advance(conn);
            }
            if (conn->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(conn);
            if (conn->fd < 0) bury(conn);
        }
        while (heap_size && heap[0]->due <= now_ns() && dead_count < 3000) {
            struct conn *conn = heap[0];
            if (conn->state == STREAMING) {
                next_event(conn);
            } else if (conn->state == DELAYED) {
                answer_stamped(conn);
                if (conn->fd >= 0) advance(conn); /* the next request may be here already */
            } else {
                drop(conn); /* silently: it was idle */
            }
            if (conn->fd < 0) bury(conn);
        }
        for (int i = 0; i < dead_count; i++) free(dead[i]);
    }
}
