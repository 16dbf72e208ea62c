#!/bin/sh
# End this model's llama-server, if it runs, and return when it is gone and its memory free.
#
# Settings, from the environment:
#   KILL_AFTER  how many seconds it gets to end by itself before it is killed (10)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_PORT:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${LLMUX_STATE_DIR:?llmux sets it}"
pid_file=$LLMUX_STATE_DIR/llama-server.pid
deadline=${LLMUX_DEADLINE:-120}
start=$(date +%s)
end=$((start + ${deadline%%.*} - 1))
patience=${KILL_AFTER:-10}
if [ $((start + patience)) -ge "$end" ]; then
    patience=$((${deadline%%.*} / 2))
fi

fail() {
    echo "sleep.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

# Whether process $1 is this model's server: the number in an old pid file may be another's now.
is_server() {
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || ps -ww -o args= -p "$1" || true)
    case "$command " in
        *" --port $LLMUX_PORT "*) return 0 ;;
        *) return 1 ;;
    esac
}

# Whether process $1 still holds anything. Its command line is gone before its memory is; one that
# has ended, and that nobody has waited for yet (Z), holds nothing.
lives() {
    state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" || ps -o stat= -p "$1" || true)
    case $state in
        "" | [ZX]*) return 1 ;;
        *) return 0 ;;
    esac
} 2>/dev/null

pid=$(cat "$pid_file" 2>/dev/null || true)
if [ -n "$pid" ] && is_server "$pid"; then
    kill -TERM "$pid" 2>/dev/null || true
    signal=TERM
    while lives "$pid"; do
        now=$(date +%s)
        if [ "$signal" = TERM ] && [ "$now" -ge $((start + patience)) ]; then
            echo "sleep.sh: $LLMUX_MODEL did not end within $patience seconds; killing it" >&2
            kill -KILL "$pid" 2>/dev/null || true
            signal=KILL
        fi
        [ "$now" -lt "$end" ] || fail "process $pid cannot be ended; look at it with ps"
        sleep 0.1
    done
fi
rm -f "$pid_file"

# Nothing of ours runs any more. If somebody answers all the same, what it holds is not free.
if curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null; then
    fail "$LLMUX_URL is served by a process that wake.sh did not start; end it"
fi
