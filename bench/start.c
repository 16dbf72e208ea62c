/*
 * How long it takes to start a hook that does nothing, from a small program.
 *
 *     start TIMES
 *
 * It forks and runs "sh -c true" so often, one after the other, each until its end, and prints a line
 * of JSON with the durations.
 */
#include "common.h"
#include "series.h"
#include <sys/wait.h>

int main(int count, char **words) {
    struct series series = {0};
    settle_in();
    if (count != 2) return 2;
    for (long left = atol(words[1]); left > 0; left--) {
        uint64_t began = now_ns();
        pid_t child = fork();
        if (child < 0) die("fork");
        if (!child) {
            execl("/bin/sh", "sh", "-c", "true", (char *)NULL);
            _exit(127);
        }
        int status;
        if (waitpid(child, &status, 0) != child || status) die("sh");
        note(&series, now_ns() - began);
    }
    printf("{\"said\": \"done\"");
    print_series("start", &series);
    printf("}\n");
    return 0;
}
