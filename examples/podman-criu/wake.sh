#!/bin/sh
# Restore this model's container from its checkpoint, or start it, and return when it can serve.
#
# Settings, from the environment; CONTAINER and PODMAN must be in sleep.sh's line as well:
#   CONTAINER     the container's name (required)
#   PODMAN        how to run podman as root ("podman"; or "sudo -n podman")
#   RESTORE_ARGS  arguments for podman container restore ("--tcp-established")
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${CONTAINER:?set it in the config: wake: CONTAINER=name .../wake.sh}"
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

say() {
    echo "wake.sh: $LLMUX_MODEL: $1" >&2
}

fail() {
    say "$1"
    exit 1
}

podman() {
    # shellcheck disable=SC2086
    command ${PODMAN:-podman} "$@"
}

healthy() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null
}

# Print the container's status and whether a checkpoint of it waits: "exited true"; or "none".
status() {
    if answer=$(podman container inspect -f '{{.State.Status}} {{.State.Checkpointed}}' \
        "$CONTAINER" 2>&1); then
        echo "$answer"
        return
    fi
    case $answer in
        *[Nn]"o such container"*) echo none ;;
        *) fail "podman does not answer: $answer" ;;
    esac
}

start() {
    podman start "$CONTAINER" >/dev/null || fail "podman cannot start $CONTAINER"
}

restore() {
    # shellcheck disable=SC2086
    podman container restore ${RESTORE_ARGS---tcp-established} "$CONTAINER" >/dev/null
}

command -v curl >/dev/null || fail "curl is missing; install it"
now=$(status) || exit 1
case $now in
    "running "*) ;;
    "paused "*) podman unpause "$CONTAINER" >/dev/null || fail "podman cannot unpause $CONTAINER" ;;
    none) fail "there is no container $CONTAINER; create it as README.rst says" ;;
    *" true")
        if ! restore; then
            say "the checkpoint cannot be restored; starting afresh"
            start
        fi
        ;;
    *) start ;;
esac

until healthy; do
    now=$(status) || exit 1
    case $now in
        "running "*) ;;
        *)
            podman logs --tail 20 "$CONTAINER" >&2 || true
            fail "$CONTAINER is ${now% *} instead of running; its last lines are above"
            ;;
    esac
    [ "$(date +%s)" -lt "$end" ] || fail "not healthy within $deadline seconds"
    sleep 0.5
done
