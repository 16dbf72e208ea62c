#!/bin/sh
# Start llama-server for this model, unless it runs already, and return when it can serve.
#
# Settings, from the environment:
#   MODEL_FILE    the model's GGUF file (required)
#   LLAMA_SERVER  the program (llama-server)
#   LLAMA_ARGS    more arguments for it, separated by blanks (none)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_PORT:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${LLMUX_STATE_DIR:?llmux sets it}"
: "${MODEL_FILE:?set it in the config: wake: MODEL_FILE=/models/a.gguf .../wake.sh}"
server=${LLAMA_SERVER:-llama-server}
pid_file=$LLMUX_STATE_DIR/llama-server.pid
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

fail() {
    echo "wake.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

healthy() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null
}

# Whether process $1 is this model's server: the number in an old pid file may be another's now.
is_server() {
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || ps -ww -o args= -p "$1" || true)
    case "$command " in
        *" --port $LLMUX_PORT "*) return 0 ;;
        *) return 1 ;;
    esac
}

command -v curl >/dev/null || fail "curl is missing; install it"
if healthy; then
    exit 0
fi

# A wake that was broken off may have left a server that is still loading: wait for that one.
pid=$(cat "$pid_file" 2>/dev/null || true)
if [ -z "$pid" ] || ! is_server "$pid"; then
    command -v "$server" >/dev/null || fail "there is no $server; set LLAMA_SERVER to its path"
    [ -r "$MODEL_FILE" ] || fail "cannot read MODEL_FILE $MODEL_FILE"
    # Detached, the server is out of reach of whatever ends this script. It prints to where this
    # script prints: a file of this model's.
    detach="setsid"
    command -v setsid >/dev/null || detach="nohup"
    set -f # LLAMA_ARGS is split at its blanks, but its * and ? are left alone
    # shellcheck disable=SC2086
    "$detach" "$server" -m "$MODEL_FILE" -a "$LLMUX_MODEL" --host 127.0.0.1 \
        --port "$LLMUX_PORT" ${LLAMA_ARGS:-} </dev/null &
    pid=$!
    echo "$pid" >"$pid_file"
fi

until healthy; do
    kill -0 "$pid" 2>/dev/null || fail "llama-server ended while it was starting; see above"
    [ "$(date +%s)" -lt "$end" ] || fail "not healthy within $deadline seconds"
    sleep 0.2
done
