#!/bin/sh
# End this model's backend, if it runs, and return when it is gone.
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_PORT:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${LLMUX_STATE_DIR:?llmux sets it}"
pid_file=$LLMUX_STATE_DIR/backend.pid

# Whether process $1 is this model's backend: the number in an old pid file may be another's now.
is_backend() {
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || ps -ww -o args= -p "$1" || true)
    case "$command " in
        *" llmux.demo "*" --port $LLMUX_PORT "*) return 0 ;;
        *) return 1 ;;
    esac
}

pid=$(cat "$pid_file" 2>/dev/null || true)
if [ -n "$pid" ] && is_backend "$pid"; then
    kill -TERM "$pid" 2>/dev/null || true
    tries=0
    while is_backend "$pid"; do
        tries=$((tries + 1))
        if [ "$tries" -eq 50 ]; then
            echo "sleep.sh: $LLMUX_MODEL did not end within 5 seconds; killing it" >&2
            kill -KILL "$pid" 2>/dev/null || true
        elif [ "$tries" -eq 100 ]; then
            echo "sleep.sh: process $pid of $LLMUX_MODEL cannot be ended" >&2
            exit 1
        fi
        sleep 0.1
    done
fi
rm -f "$pid_file"

# Nothing of ours runs any more. If somebody answers all the same, what it holds is not free.
if "${PYTHON:-python3}" "$(dirname "$0")/../../llmux/demo/check.py" "$LLMUX_URL/health"; then
    echo "sleep.sh: $LLMUX_URL is served by a process that wake.sh did not start; end it" >&2
    exit 1
fi
