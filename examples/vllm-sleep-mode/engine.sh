# shellcheck shell=sh disable=SC2034
# What wake.sh and sleep.sh both need to know about one vLLM engine; they read this file in.

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_PORT:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${LLMUX_STATE_DIR:?llmux sets it}"
container=${VLLM_CONTAINER:-}
pid_file=$LLMUX_STATE_DIR/vllm.pid
# The level that the engine was put to sleep at.
level_file=$LLMUX_STATE_DIR/vllm.sleep-level
# The GPUs that the engine was started on; it cannot move to others while it runs.
place_file=$LLMUX_STATE_DIR/vllm.place
# There while the engine is being woken; a wake that breaks off leaves it behind.
waking_file=$LLMUX_STATE_DIR/vllm.waking
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

say() {
    echo "$(basename "$0"): $LLMUX_MODEL: $1" >&2
}

fail() {
    say "$1"
    exit 1
}

in_time() {
    [ "$(date +%s)" -lt "$end" ]
}

healthy() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null
}

# Post to the engine; $1 is the path, what follows goes to curl. An engine that hangs leaves a third
# of the time to deal with it.
post() {
    path=$1
    shift
    left=$(((end - $(date +%s)) * 2 / 3))
    [ "$left" -ge 1 ] || left=1
    curl -fsS -m "$left" -o /dev/null -X POST "$@" "$LLMUX_URL$path"
}

# Print asleep, awake, or unknown if the engine does not say.
state() {
    answer=$(curl -fsS -m 5 "$LLMUX_URL/is_sleeping") || answer=""
    case $answer in
        *true*) echo asleep ;;
        *false*) echo awake ;;
        *) echo unknown ;;
    esac
}

# Whether an engine that wake.sh started runs, be it only its workers: they hold the GPU, and they
# outlive a server that was killed (vllm-project/vllm issue 55510).
is_running() {
    if [ -n "$container" ]; then
        names=$(docker container ls --format '{{.Names}}') || fail "docker does not answer"
        printf '%s\n' "$names" | grep -Fqx -- "$container"
        return
    fi
    pid=$(cat "$pid_file" 2>/dev/null || true)
    [ -n "$pid" ] || return 1
    # The number in an old pid file may be another program's now; without a command line, it is that
    # of a server that has ended.
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps -ww -o args= -p "$pid" || true)
    case "$command " in
        *" --port $LLMUX_PORT "* | " ") group_lives ;;
        *) return 1 ;;
    esac
}

# Whether the server or a worker of it still holds anything; one that has ended (Z) does not.
group_lives() {
    ps -A -o pgid= -o stat= |
        awk -v group="$pid" '$1 == group && $2 !~ /^[ZX]/ { lives = 1 } END { exit !lives }'
}

# End the engine, and wait until nothing of it holds anything any more.
end_engine() {
    is_running || fail "vLLM at $LLMUX_URL was not started by wake.sh; end it"
    patience=${KILL_AFTER:-20}
    if [ "$patience" -ge $((${deadline%%.*} / 2)) ]; then
        patience=$((${deadline%%.*} / 2))
    fi
    rm -f "$level_file" "$waking_file"
    if [ -n "$container" ]; then
        docker stop -t "$patience" "$container" >/dev/null || fail "docker cannot stop $container"
        return
    fi
    kill -TERM "$pid" 2>/dev/null || kill -s KILL -- "-$pid" 2>/dev/null || true
    start=$(date +%s)
    while group_lives; do
        if [ "$(date +%s)" -ge $((start + patience)) ]; then
            kill -s KILL -- "-$pid" 2>/dev/null || true
        fi
        in_time || fail "process group $pid cannot be ended; look at it with ps"
        sleep 0.2
    done
    rm -f "$pid_file"
}
