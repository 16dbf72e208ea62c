#!/bin/sh
# Start this model's backend, unless it runs already, and return when it is healthy.
#
# Settings, from the environment:
#   PYTHON          the Python that llmux is installed in (python3)
#   LOAD_SECS       how long the backend pretends to load (2)
#   TOKENS_PER_SEC  how fast it speaks (30)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_PORT:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${LLMUX_STATE_DIR:?llmux sets it}"
python=${PYTHON:-python3}
pid_file=$LLMUX_STATE_DIR/backend.pid
deadline=${LLMUX_DEADLINE:-60}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

healthy() {
    "$python" "$(dirname "$0")/../../llmux/demo/check.py" "$LLMUX_URL/health"
}

# Whether process $1 is this model's backend: the number in an old pid file may be another's now.
is_backend() {
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || ps -ww -o args= -p "$1" || true)
    case "$command " in
        *" llmux.demo "*" --port $LLMUX_PORT "*) return 0 ;;
        *) return 1 ;;
    esac
}

if healthy; then
    exit 0
fi

# A wake that was broken off may have left a backend that is still loading: wait for that one.
pid=$(cat "$pid_file" 2>/dev/null || true)
if [ -z "$pid" ] || ! is_backend "$pid"; then
    # Whatever it prints goes where this script's output goes: a file of this model's.
    "$python" -m llmux.demo --model "$LLMUX_MODEL" --port "$LLMUX_PORT" \
        --load-secs "${LOAD_SECS:-2}" --tokens-per-sec "${TOKENS_PER_SEC:-30}" &
    pid=$!
    echo "$pid" >"$pid_file"
fi

until healthy; do
    if ! kill -0 "$pid" 2>/dev/null; then
        echo "wake.sh: the backend of $LLMUX_MODEL ended while it was starting; see above" >&2
        exit 1
    fi
    if [ "$(date +%s)" -ge "$end" ]; then
        echo "wake.sh: $LLMUX_MODEL was not healthy within $deadline seconds" >&2
        exit 1
    fi
    sleep 0.1
done
