/* Durations in nanoseconds, kept whole, for their percentiles. */
#pragma once
#include "common.h"

struct series {
    uint64_t *values;
    size_t size, room;
};

static void note(struct series *series, uint64_t value) {
    if (series->size == series->room) {
        series->room = series->room ? 2 * series->room : 4096;
        series->values = realloc(series->values, series->room * sizeof *series->values);
        if (!series->values) die("realloc");
    }
    series->values[series->size++] = value;
}

static int compare(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static void print_series(const char *name, struct series *series) {
    size_t size = series->size;
    if (size) qsort(series->values, size, sizeof *series->values, compare);
    printf(", \"%s\": {\"count\": %zu", name, size);
    if (size)
        printf(", \"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f", series->values[size / 2] / 1e9,
               series->values[size * 99 / 100] / 1e9, series->values[size - 1] / 1e9);
    printf("}");
}
