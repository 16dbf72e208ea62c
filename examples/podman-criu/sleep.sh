#!/bin/sh
# Checkpoint this model's container, which ends its processes and frees the GPU; a container that
# cannot be checkpointed is stopped.
#
# Settings, from the environment:
#   CONTAINER, PODMAN  as for wake.sh
#   CHECKPOINT_ARGS    arguments for podman container checkpoint ("--tcp-established")
#   STOP_SECS          how long it may take to end by itself, if it must be stopped (10)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${CONTAINER:?set it in the config: sleep: CONTAINER=name .../sleep.sh}"

say() {
    echo "sleep.sh: $LLMUX_MODEL: $1" >&2
}

fail() {
    say "$1"
    exit 1
}

podman() {
    # shellcheck disable=SC2086
    command ${PODMAN:-podman} "$@"
}

# Print the container's status, or none if there is no such container.
status() {
    if answer=$(podman container inspect -f '{{.State.Status}}' "$CONTAINER" 2>&1); then
        echo "$answer"
        return
    fi
    case $answer in
        *[Nn]"o such container"*) echo none ;;
        *) fail "podman does not answer: $answer" ;;
    esac
}

# A checkpoint of a server that is still loading would be one that never serves.
checkpoint() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" || return 1
    # shellcheck disable=SC2086
    podman container checkpoint ${CHECKPOINT_ARGS---tcp-established} "$CONTAINER" >/dev/null
}

now=$(status) || exit 1
if [ "$now" = paused ]; then
    podman unpause "$CONTAINER" >/dev/null || fail "podman cannot unpause $CONTAINER"
    now=running
fi
case $now in
    running | stopping)
        if ! checkpoint; then
            say "$CONTAINER cannot be checkpointed; stopping it"
            podman stop -t "${STOP_SECS:-10}" "$CONTAINER" >/dev/null ||
                fail "podman cannot stop $CONTAINER"
        fi
        now=$(status) || exit 1
        case $now in
            running | stopping | paused) fail "$CONTAINER is still $now; see podman ps" ;;
        esac
        ;;
esac

# Nothing of ours runs any more. If somebody answers all the same, what it holds is not free.
if curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null; then
    fail "$LLMUX_URL is served by something else than the container $CONTAINER; end that"
fi
