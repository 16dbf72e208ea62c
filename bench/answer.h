/* Reading one HTTP/1.1 answer as its pieces come: where it ends, and the events in it. */
#pragma once
#include "common.h"

enum framing { NO_HEAD_YET, BY_LENGTH, CHUNKED, BY_CLOSE };
enum reading { NEEDS_MORE, ENDED, NONSENSE };

struct answer {
    enum framing framing;
    int status, last;        /* last: the connection ends with it */
    uint64_t left;           /* of the body, or of the chunk with its line end */
    int in_line, last_chunk; /* between chunks; after the chunk of size 0 */
    size_t head_have, text_have;
    char head[2048], text[512]; /* text: how the body begins, of answers other than 200 */
    int newlines, matched;   /* at the end of what has been read: line ends; characters of STAMP */
    uint64_t stamp;          /* when the event was sent that is being read */
};

/* Called for each event that has been read to its end. */
typedef void (*on_event)(uint64_t sent_ns);

static void read_body(struct answer *answer, const char *data, size_t size, on_event event) {
    static const char STAMP[] = "ns:";
    if (answer->status != 200) {
        size_t room = sizeof answer->text - 1 - answer->text_have;
        size_t some = size < room ? size : room;
        memcpy(answer->text + answer->text_have, data, some);
        answer->text_have += some;
        return;
    }
    if (!event) return;
    for (const char *end = data + size; data < end; data++) {
        if (*data == '\n') {
            if (++answer->newlines == 2) event(answer->stamp);
            continue;
        }
        answer->newlines = 0;
        if (answer->matched == sizeof STAMP - 1) {
            if (*data >= '0' && *data <= '9')
                answer->stamp = answer->stamp * 10 + (uint64_t)(*data - '0');
            else
                answer->matched = 0;
        } else if (*data == STAMP[answer->matched]) {
            if (++answer->matched == sizeof STAMP - 1) answer->stamp = 0;
        } else {
            answer->matched = *data == STAMP[0];
        }
    }
}

/* Give how many of the bytes belonged to the head. */
static size_t read_head(struct answer *answer, const char *data, size_t size) {
    size_t before = answer->head_have, room = sizeof answer->head - 1 - before;
    size_t some = size < room ? size : room;
    memcpy(answer->head + before, data, some);
    answer->head_have += some;
    answer->head[answer->head_have] = '\0';
    char *end = strstr(answer->head, "\r\n\r\n");
    if (!end) return some;
    end[2] = '\0';
    const char *length = strcasestr(answer->head, "\r\ncontent-length:");
    answer->status = atoi(answer->head + 9);
    answer->last = !!strcasestr(answer->head, "\r\nconnection: close");
    answer->framing = length ? BY_LENGTH : BY_CLOSE;
    if (length) answer->left = strtoull(length + 17, NULL, 10);
    if (strcasestr(answer->head, "\r\ntransfer-encoding: chunked")) {
        answer->framing = CHUNKED;
        answer->in_line = 1;
        answer->left = 0;
    }
    answer->last |= answer->framing == BY_CLOSE;
    return (size_t)(end + 4 - answer->head) - before;
}

/* Read some bytes of it; those behind its end are lost, for no client of ours pipelines. */
static enum reading read_answer(struct answer *answer, const char *data, size_t size,
                                on_event event) {
    if (answer->framing == NO_HEAD_YET) {
        size_t used = read_head(answer, data, size);
        data += used;
        size -= used;
        if (answer->framing == NO_HEAD_YET)
            return answer->head_have == sizeof answer->head - 1 ? NONSENSE : NEEDS_MORE;
    }
    while (size && answer->framing == CHUNKED) {
        if (answer->in_line) { /* the size of a chunk in hexadecimal digits, or the last line end */
            const char *digit = "0123456789abcdef";
            const char *found = *data ? strchr(digit, *data | 0x20) : NULL;
            if (*data == '\n') {
                if (answer->last_chunk) return ENDED;
                answer->in_line = 0;
                answer->last_chunk = !answer->left;
                if (answer->last_chunk)
                    answer->in_line = 1; /* our backend sends no trailers: an empty line follows */
                else
                    answer->left += 2;
            } else if (found && *data != '\r') {
                answer->left = answer->left * 16 + (uint64_t)(found - digit);
            } else if (*data != '\r') {
                return NONSENSE;
            }
            data++;
            size--;
            continue;
        }
        size_t some = size < answer->left ? size : (size_t)answer->left;
        uint64_t after = answer->left - some; /* the last two are the chunk's line end */
        size_t line_end = after >= 2 ? 0 : (size_t)(2 - after);
        if (line_end > some) line_end = some;
        read_body(answer, data, some - line_end, event);
        answer->left = after;
        answer->in_line = !after;
        data += some;
        size -= some;
    }
    if (answer->framing == BY_LENGTH) {
        size_t some = size < answer->left ? size : (size_t)answer->left;
        read_body(answer, data, some, event);
        answer->left -= some;
        return answer->left ? NEEDS_MORE : ENDED;
    }
    if (answer->framing == BY_CLOSE) read_body(answer, data, size, event);
    return NEEDS_MORE;
}
