#!/bin/sh
# Start this model's unit, unless it is active already, and return when its server can serve.
#
# Settings, from the environment:
#   UNIT  the unit (required)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${UNIT:?set it in the config: wake: UNIT=llm@NAME.service .../wake.sh}"
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))
# A service of the system, which llmux may be, is not told where the user's systemd is.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"

fail() {
    echo "wake.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

healthy() {
    curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null
}

status() {
    systemctl --user show -p ActiveState --value "$UNIT" ||
        fail "the user's systemd does not answer; see README.rst"
}

command -v curl >/dev/null || fail "curl is missing; install it"
now=$(status) || exit 1
case $now in
    active | activating | reloading) ;;
    *) systemctl --user start "$UNIT" || fail "systemd cannot start $UNIT" ;;
esac

until healthy; do
    now=$(status) || exit 1
    case $now in
        active | activating | reloading) ;;
        *)
            journalctl --user -u "$UNIT" -n 20 --no-pager >&2 || true
            fail "$UNIT is $now; its last lines are above"
            ;;
    esac
    [ "$(date +%s)" -lt "$end" ] || fail "not healthy within $deadline seconds"
    sleep 0.2
done
