/*
 * A wake hook that takes as long as it is told to: it waits for a file, notes the time, and ends.
 *
 *     hold GATE STAMP
 *
 * STAMP then holds the monotonic time in nanoseconds.  It gives up after two minutes.
 */
#include "common.h"

int main(int count, char **words) {
    settle_in();
    if (count != 3) return 2;
    uint64_t end = now_ns() + 120 * SECOND;
    while (access(words[1], F_OK) != 0) {
        if (now_ns() > end) return 1;
        usleep(1000);
    }
    FILE *stamp = fopen(words[2], "w");
    if (!stamp) die(words[2]);
    fprintf(stamp, "%llu\n", (unsigned long long)now_ns());
    return fclose(stamp) != 0;
}
