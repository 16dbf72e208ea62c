#!/bin/sh
# Start this model's container, unless it runs already, and return when it can serve.
#
# Settings, from the environment; CONTAINER and HEALTH_PATH must be in every hook's line:
#   CONTAINER    the container's name (the model's name in llmux)
#   HEALTH_PATH  what to ask the server for (/health)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
container=${CONTAINER:-$LLMUX_MODEL}
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

fail() {
    echo "wake.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

healthy() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL${HEALTH_PATH:-/health}" 2>/dev/null
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

command -v curl >/dev/null || fail "curl is missing; install it"
now=$(status) || exit 1
case $now in
    running) ;;
    paused) docker unpause "$container" >/dev/null || fail "docker cannot unpause $container" ;;
    none) fail "there is no container $container; create it as README.rst says" ;;
    *) docker start "$container" >/dev/null || fail "docker cannot start $container" ;;
esac

until healthy; do
    now=$(status) || exit 1
    if [ "$now" != running ]; then
        docker logs --tail 20 "$container" >&2 || true
        fail "$container is $now instead of running; its last lines are above"
    fi
    [ "$(date +%s)" -lt "$end" ] || fail "not healthy within $deadline seconds"
    sleep 0.5
done
