#!/bin/sh
# Stop this model's container, if it runs, and return when it has stopped.
#
# Settings, from the environment:
#   CONTAINER, HEALTH_PATH  as for wake.sh
#   STOP_SECS               how long it may take to end by itself before docker kills it (10)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
container=${CONTAINER:-$LLMUX_MODEL}
deadline=${LLMUX_DEADLINE:-120}
patience=${STOP_SECS:-10}
if [ "$patience" -gt $((${deadline%%.*} / 2)) ]; then
    patience=$((${deadline%%.*} / 2))
fi

fail() {
    echo "sleep.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

# Print the container's status, or none if there is no such container.
status() {
    if answer=$(docker container inspect -f '{{.State.Status}}' "$container" 2>&1); then
        echo "$answer"
        return
    fi
    case $answer in
        *[Nn]"o such container"*) echo none ;;
        *) fail "docker does not answer: $answer" ;;
    esac
}

now=$(status) || exit 1
case $now in
    none | created | exited | dead) ;;
    *)
        if [ "$now" = paused ]; then
            docker unpause "$container" >/dev/null || fail "docker cannot unpause $container"
        fi
        docker stop -t "$patience" "$container" >/dev/null || fail "docker cannot stop $container"
        now=$(status) || exit 1
        case $now in
            none | created | exited | dead) ;;
            *) fail "$container is $now after docker stop; has it a restart policy?" ;;
        esac
        ;;
esac

# Nothing of ours runs any more. If somebody answers all the same, what it holds is not free.
if curl -fsS -m 5 -o /dev/null "$LLMUX_URL${HEALTH_PATH:-/health}" 2>/dev/null; then
    fail "$LLMUX_URL is served by something else than the container $container; end that"
fi
