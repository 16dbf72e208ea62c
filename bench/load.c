/*
 * Clients that are never the bottleneck: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 *     load PORT PATH MODEL [--option N]...
 *
 * Each client POSTs JSON that names the model, reads the answer, pauses, and asks again.
 *
 *     clients N       how many (1)              requests N      of each client; 0: no end (0)
 *     gap_us N        pause between an answer   gap_random_us N  and a random part of it (0)
 *                     and the next request (0)
 *     body N          bytes of the request: with an image in base64, and the model's name at its
 *                     very end; 0: a short one (0)
 *     seconds N       how long, from when every client has got its first byte; what was before that
 *                     is not counted; 0: until all have ended, and everything is counted (0)
 *     together 1      connect all, then send all requests at once
 *     stall_after N   read so many bytes of the answer and then no more (never)
 *     rate N          connections opened a second at most (1000)
 *     patience N      seconds after which it gives up (60)
 *     stream 1        ask for a stream, and look at its events (0)
 *
 * It prints lines of JSON: {"said": "sent"} when all requests have gone out, {"said": "begun"} when
 * every client has got its first byte, and {"said": "done", ...} with the figures.  Those come while
 * the connections are still open, and also if a SIGTERM ended it.  A SIGUSR1 has it print {"said":
 * "part", ...} with the figures so far, and begin to count anew.
 */
#include "answer.h"
#include "series.h"

enum state { UNBORN, CONNECTING, CONNECTED, SENDING, READING, PAUSED, STALLED, FINISHED };

struct client {
    int fd;
    enum state state;
    long requests;   /* to come; below 0: no end */
    size_t sent;
    uint64_t began, due, bytes;
    int sent_first, had_first;
    struct answer answer;
};

static struct {
    long clients, requests, gap_us, gap_random_us, body, seconds, together, stall_after, rate, patience;
    long stream;
} option = {.clients = 1, .rate = 1000, .patience = 60};

static struct {
    uint64_t answers, closed, cut, nonsense, closed_before, events, bytes, statuses[1000];
    uint64_t first_sent, last_first_byte;
    struct series first_byte, lag;
    char sample[512];
} count;

static struct client *clients;
static struct sockaddr_in address;
static char request[4096], image[256 * 1024], rest[512];
static size_t request_size, image_size, rest_size;
static int poller;
static long sent, begun, finished, connected;
static uint64_t since; /* when it began to count */
static volatile sig_atomic_t ended, part_wanted;

static void note_event(uint64_t sent_ns) {
    uint64_t now = now_ns();
    count.events++;
    if (sent_ns < since) return; /* may have waited for this process, which was at its figures */
    note(&count.lag, now > sent_ns ? now - sent_ns : 0);
}

static void write_request(const char *port, const char *path, const char *model) {
    static const char BEFORE[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is this?\"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,";
    static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char after[sizeof rest], small[512];
    snprintf(after, sizeof after, "\"}}]}],\"model\":\"%s\"}", model);
    snprintf(small, sizeof small, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":"
             "\"Hello\"}]%s}", model, option.stream ? ",\"stream\":true" : "");
    size_t fixed = strlen(BEFORE) + strlen(after);
    if (option.body && (size_t)option.body > fixed) image_size = (size_t)option.body - fixed;
    size_t body = option.body ? fixed + image_size : strlen(small);
    request_size = (size_t)snprintf(request, sizeof request,
        "POST %.1024s HTTP/1.1\r\nHost: 127.0.0.1:%.5s\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s", path, port, body, option.body ? BEFORE : small);
    if (!option.body) return;
    for (size_t i = 0; i < sizeof image; i++) image[i] = BASE64[random_below(64)];
    rest_size = strlen(strcpy(rest, after));
}

/*
 * What is to be sent from some byte of the request on.  The image repeats itself: to free one of 50 MB
 * at this process's end would hold up all others on the same core for milliseconds.
 */
static const char *piece(size_t from, size_t *size) {
    if (from < request_size) return *size = request_size - from, request + from;
    from -= request_size;
    if (from < image_size) {
        size_t at = from % sizeof image;
        *size = image_size - from < sizeof image - at ? image_size - from : sizeof image - at;
        return image + at;
    }
    from -= image_size;
    return *size = rest_size - from, rest + from;
}

static void watch(struct client *client, uint32_t wanted) {
    struct epoll_event event = {.events = wanted, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void hang_up(struct client *client) {
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
}

static void go_on_sending(struct client *client) {
    while (client->sent < request_size + image_size + rest_size) {
        size_t size;
        const char *next = piece(client->sent, &size);
        ssize_t some = write(client->fd, next, size);
        if (some < 0 && errno == EAGAIN) return watch(client, EPOLLIN | EPOLLOUT);
        if (some < 0) break; /* what the other side has to say comes with the next read */
        client->sent += (size_t)some;
    }
    if (!client->sent_first) {
        client->sent_first = 1;
        sent++;
    }
    client->state = READING;
    watch(client, EPOLLIN);
}

static void begin_request(struct client *client) {
    client->sent = 0;
    client->began = now_ns();
    if (!count.first_sent) count.first_sent = client->began;
    memset(&client->answer, 0, sizeof client->answer);
    client->state = SENDING;
    go_on_sending(client);
}

static void open_connection(struct client *client) {
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket");
    without_delay(client->fd);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
    client->state = CONNECTING;
    client->began = now_ns();
}

/* A request has come to its end, this way or that. */
static void next_request(struct client *client) {
    if (client->requests > 0 && --client->requests == 0) {
        hang_up(client);
        client->state = FINISHED;
        finished++;
        return;
    }
    uint64_t gap = (uint64_t)option.gap_us * 1000;
    gap += random_below((uint64_t)option.gap_random_us * 1000);
    client->due = now_ns() + gap;
    client->state = PAUSED;
}

static void has_begun(struct client *client) {
    if (!client->had_first) {
        client->had_first = 1;
        begun++;
    }
}

static void lost(struct client *client) {
    if (client->answer.framing == BY_CLOSE && client->answer.status) {
        count.answers++;
        count.statuses[client->answer.status % 1000]++;
    } else if (client->answer.head_have) {
        count.cut++;
    } else {
        count.closed++;
    }
    has_begun(client); /* nobody waits for this one */
    hang_up(client);
    next_request(client);
}

static void answered(struct client *client) {
    struct answer *answer = &client->answer;
    count.answers++;
    count.statuses[answer->status % 1000]++;
    if (answer->status != 200) {
        answer->text[answer->text_have] = '\0';
        if (answer->status == 502 && strstr(answer->text, "closed before")) count.closed_before++;
        if (!*count.sample) strcpy(count.sample, answer->text);
    }
    if (answer->last) hang_up(client);
    next_request(client);
}

static void readable(struct client *client) {
    static char data[256 * 1024];
    size_t most = sizeof data;
    if (option.stall_after && client->bytes + most > (uint64_t)option.stall_after)
        most = (uint64_t)option.stall_after > client->bytes
                   ? (size_t)((uint64_t)option.stall_after - client->bytes) : 0;
    if (!most) {
        client->state = STALLED;
        return watch(client, 0);
    }
    ssize_t got = read(client->fd, data, most);
    if (got < 0 && errno == EAGAIN) return;
    if (client->state == PAUSED || client->state == CONNECTED) { /* an idle connection's end */
        if (got <= 0) return hang_up(client);
        count.nonsense++;
        return;
    }
    if (got <= 0) return lost(client);
    if (!client->answer.head_have) {
        uint64_t now = now_ns();
        note(&count.first_byte, now - client->began);
        count.last_first_byte = now;
        has_begun(client);
    }
    client->bytes += (uint64_t)got;
    count.bytes += (uint64_t)got;
    enum reading reading =
        read_answer(&client->answer, data, (size_t)got, option.stream ? note_event : NULL);
    if (reading == ENDED) {
        answered(client);
    } else if (reading == NONSENSE) {
        count.nonsense++;
        hang_up(client);
        next_request(client);
    }
}

static void happened(struct client *client, uint32_t events) {
    if (client->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) return lost(client);
        connected++;
        client->state = CONNECTED;
        watch(client, EPOLLIN);
        if (!option.together) begin_request(client);
        return;
    }
    if (client->state == STALLED) return lost(client);
    if (client->state == SENDING && events & EPOLLOUT) go_on_sending(client);
    if (client->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(client);
}

static void print_figures(const char *what) {
    const char *comma = "";
    printf("{\"said\": \"%s\", \"seconds\": %.6f, \"answers\": %llu, \"statuses\": {", what,
           (now_ns() - since) / 1e9, (unsigned long long)count.answers);
    for (int status = 0; status < 1000; status++)
        if (count.statuses[status]) {
            printf("%s\"%d\": %llu", comma, status, (unsigned long long)count.statuses[status]);
            comma = ", ";
        }
    for (char *at = count.sample; *at; at++)
        if (*at == '"' || *at == '\\' || *at < ' ' || *at > '~') *at = ' ';
    printf("}, \"closed\": %llu, \"cut\": %llu, \"nonsense\": %llu, \"closed_before\": %llu, "
           "\"events\": %llu, \"bytes\": %llu, \"first_sent_ns\": %llu, \"last_first_byte_ns\": %llu, "
           "\"sample\": \"%s\"",
           (unsigned long long)count.closed, (unsigned long long)count.cut,
           (unsigned long long)count.nonsense, (unsigned long long)count.closed_before,
           (unsigned long long)count.events, (unsigned long long)count.bytes,
           (unsigned long long)count.first_sent, (unsigned long long)count.last_first_byte,
           count.sample);
    print_series("first_byte", &count.first_byte);
    print_series("lag", &count.lag);
    printf("}\n");
    fflush(stdout);
}

static void say(const char *what) {
    printf("{\"said\": \"%s\"}\n", what);
    fflush(stdout);
}

static void end(int signal) {
    (void)signal;
    ended = 1;
}

static void want_part(int signal) {
    (void)signal;
    part_wanted = 1;
}

static void count_anew(void) {
    free(count.first_byte.values);
    free(count.lag.values);
    memset(&count, 0, sizeof count);
    since = now_ns();
}

static void read_options(int count_, char **words) {
    static const struct { const char *name; long *value; } known[] = {
        {"--clients", &option.clients}, {"--requests", &option.requests},
        {"--gap_us", &option.gap_us}, {"--gap_random_us", &option.gap_random_us},
        {"--body", &option.body}, {"--seconds", &option.seconds},
        {"--together", &option.together}, {"--stall_after", &option.stall_after},
        {"--rate", &option.rate}, {"--patience", &option.patience}, {"--stream", &option.stream}};
    for (int i = 4; i < count_; i += 2) {
        size_t at = 0, size = sizeof known / sizeof *known;
        while (at < size && strcmp(words[i], known[at].name)) at++;
        if (at == size || i + 1 == count_) {
            fprintf(stderr, "load: what is %s?\n", words[i]);
            exit(2);
        }
        *known[at].value = atol(words[i + 1]);
    }
}

/* Open the connections that may be opened by now, and go on with those whose pause is over. */
static struct timespec look_at_clients(uint64_t started) {
    static long born;
    uint64_t now = now_ns(), next = now + 100 * MILLISECOND;
    while (born < option.clients && now - started >= (uint64_t)born * SECOND / (uint64_t)option.rate)
        open_connection(&clients[born++]);
    if (born < option.clients) next = now + MILLISECOND;
    for (long i = 0; i < born && option.requests != 1; i++) {
        struct client *client = &clients[i];
        if (client->state != PAUSED) continue;
        if (client->due > now) {
            if (client->due < next) next = client->due;
        } else if (client->fd < 0) {
            open_connection(client);
        } else {
            begin_request(client);
        }
    }
    return (struct timespec){0, (long)(next - now)};
}

int main(int words_count, char **words) {
    if (words_count < 4) {
        fprintf(stderr, "usage: load PORT PATH MODEL [--option N]...\n");
        return 2;
    }
    settle_in();
    signal(SIGTERM, end);
    signal(SIGUSR1, want_part);
    read_options(words_count, words);
    address = loopback(atoi(words[1]));
    if (!option.body) run_when_woken();
    write_request(words[1], words[2], words[3]);
    if (!(clients = calloc((size_t)option.clients, sizeof *clients))) die("calloc");
    for (long i = 0; i < option.clients; i++) {
        clients[i].fd = -1;
        clients[i].requests = option.requests ? option.requests : -1;
    }
    poller = epoll_create1(0);
    struct epoll_event events[512];
    uint64_t started = since = now_ns(), until = NEVER;
    uint64_t patience = started + (uint64_t)(option.patience + option.seconds) * SECOND;
    int said_sent = 0, said_begun = 0;
    while (!ended && finished < option.clients && now_ns() < until) {
        if (now_ns() > patience) {
            fprintf(stderr, "load: out of patience: %ld connected, %ld sent, %ld begun, %ld ended\n",
                    connected, sent, begun, finished);
            break;
        }
        if (part_wanted) {
            part_wanted = 0;
            print_figures("part");
            count_anew();
        }
        struct timespec wait = look_at_clients(started);
        int ready = epoll_pwait2(poller, events, 512, &wait, NULL);
        if (ready < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client->fd >= 0) happened(client, events[i].events);
        }
        if (option.together && connected == option.clients) {
            option.together = 0;
            for (long i = 0; i < option.clients; i++)
                if (clients[i].state == CONNECTED) begin_request(&clients[i]);
        }
        if (!said_sent && sent == option.clients) {
            said_sent = 1;
            say("sent");
        }
        if (!said_begun && begun == option.clients) {
            said_begun = 1;
            if (option.seconds) {
                count_anew();
                until = since + (uint64_t)option.seconds * SECOND;
            }
            say("begun");
        }
    }
    print_figures("done");
    usleep(50000); /* whoever reads this looks at the proxy before these connections end */
    return 0;
}
