#!/bin/sh
# Make this model's vLLM serve: wake the engine if it sleeps, start it if it does not run.
#
# Settings, from the environment; those of the container must be in sleep.sh's line as well:
#   VLLM_CONTAINER  a container that holds the engine; else wake.sh runs `vllm serve` itself
#   VLLM            the program (vllm)
#   VLLM_MODEL      what to load: a name or a folder (the model's name in llmux)
#   VLLM_ARGS       more arguments for it, separated by blanks (none)
#   KILL_AFTER      as for sleep.sh, for an engine that has to move to other GPUs
# shellcheck disable=SC1091,SC2154
set -eu

. "$(dirname "$0")/engine.sh"

start() {
    rm -f "$level_file" "$waking_file"
    if [ -n "$container" ]; then
        docker start "$container" >/dev/null || fail "create $container first; see README.rst"
        return
    fi
    if [ -n "$gpus" ]; then
        export CUDA_VISIBLE_DEVICES="$gpus"
        case $gpus in *,*) VLLM_ARGS="${VLLM_ARGS:-} --tensor-parallel-size $gpu_count" ;; esac
    fi
    echo "$gpus" >"$place_file"
    program=${VLLM:-vllm}
    command -v "$program" >/dev/null || fail "there is no $program; set VLLM to its path"
    set -f # VLLM_ARGS is split at its blanks, but its * and ? are left alone
    # Detached, the engine outlives this script, and leads a process group that its workers are in.
    # shellcheck disable=SC2086
    VLLM_SERVER_DEV_MODE=1 setsid "$program" serve "${VLLM_MODEL:-$LLMUX_MODEL}" \
        --served-model-name "$LLMUX_MODEL" --host 127.0.0.1 --port "$LLMUX_PORT" \
        --enable-sleep-mode ${VLLM_ARGS:-} </dev/null &
    echo "$!" >"$pid_file"
}

# Whether the engine that is being waited for can still come up.
is_starting() {
    if [ -n "$container" ]; then
        is_running
    else
        kill -0 "$(cat "$pid_file")" 2>/dev/null
    fi
}

wake() {
    level=$(cat "$level_file" 2>/dev/null || echo "${SLEEP_LEVEL:-1}")
    : >"$waking_file"
    if [ "$level" = 2 ]; then
        # The weights were thrown away. Room for them first, and for the KV cache only when they
        # are back: loading needs some of that room.
        post "/wake_up?tags=weights" &&
            post /collective_rpc -H "Content-Type: application/json" \
                -d '{"method": "reload_weights"}' &&
            post "/wake_up?tags=kv_cache"
    else
        post /wake_up
    fi || fail "the engine cannot be woken; its log says why"
    until [ "$(state)" = awake ]; do
        in_time || fail "still asleep after $deadline seconds"
        sleep 0.2
    done
    rm -f "$waking_file"
}

command -v curl >/dev/null || fail "curl is missing; install it"
# LLMUX_PLACEMENT names what the engine is to take: gpu0, or gpu0,gpu1. Without it, it takes what it
# sees.
gpus=$(printf '%s\n' "${LLMUX_PLACEMENT:-}" | tr , '\n' | sed -n 's/^gpu//p' | paste -sd, -)
gpu_count=$(printf '%s\n' "$gpus" | tr , '\n' | wc -l | tr -d ' ')
if [ -z "$container" ] && [ "$gpus" != "$(cat "$place_file" 2>/dev/null)" ] && is_running; then
    say "the engine is to be on other GPUs; ending it"
    end_engine
fi
if ! healthy; then
    is_running || start
    until healthy; do
        sleep 0.5
        is_starting || fail "vLLM ended while it was starting; its log says why"
        in_time || fail "not healthy within $deadline seconds"
    done
fi

case $(state) in
    asleep) wake ;;
    awake) ;;
    *) fail "no /is_sleeping: start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1" ;;
esac
