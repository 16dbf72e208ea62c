#!/bin/sh
# Stop this model's unit, if it is active, and return when all its processes have gone.
#
# Settings, from the environment:
#   UNIT  the unit (required)
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
: "${UNIT:?set it in the config: sleep: UNIT=llm@NAME.service .../sleep.sh}"
deadline=${LLMUX_DEADLINE:-120}
start=$(date +%s)
end=$((start + ${deadline%%.*} - 1))
# A service of the system, which llmux may be, is not told where the user's systemd is.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"

fail() {
    echo "sleep.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

# Whether something of the unit still runs.
runs() {
    now=$(systemctl --user show -p ActiveState --value "$UNIT") ||
        fail "the user's systemd does not answer; see README.rst"
    case $now in
        inactive | failed) return 1 ;;
        *) return 0 ;;
    esac
}

if runs; then
    # Not waited for here: systemd's own patience, TimeoutStopSec, may be longer than llmux's.
    systemctl --user stop --no-block "$UNIT" || fail "systemd cannot stop $UNIT"
fi
while runs; do
    now=$(date +%s)
    if [ $((now - start)) -ge $((${deadline%%.*} / 2)) ]; then
        systemctl --user kill -s KILL "$UNIT" || true
    fi
    [ "$now" -lt "$end" ] || fail "$UNIT cannot be stopped; see systemctl --user status $UNIT"
    sleep 0.2
done

# Nothing of ours runs any more. If somebody answers all the same, what it holds is not free.
if curl -fsS -m 5 -o /dev/null "$LLMUX_URL/health" 2>/dev/null; then
    fail "$LLMUX_URL is served by something else than $UNIT; end that"
fi
