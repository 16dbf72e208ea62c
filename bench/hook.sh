#!/bin/sh
# hook.sh EXAMPLE: a hook of the soak and of the crashes. It writes down when it runs, does what it
# has been told to do wrong, and else is the hook of an example.
#
# From the environment:
#   FLEET        a directory: hooks.log, and faults/MODEL.HOOK, which says what is to go wrong
#   FLEET_PORTS  the ports of all backends, separated by blanks
#   WAKE_LINGERS, SLEEP_LINGERS  how many seconds it idles before it begins (0)
set -u

: "${FLEET:?}" "${FLEET_PORTS:?}" "${LLMUX_MODEL:?}" "${LLMUX_HOOK:?}" "${LLMUX_PORT:?}"
example=$(dirname "$0")/../examples/$1

line() {
    echo "$(date +%s.%N) $1 $LLMUX_MODEL $LLMUX_HOOK $$ $2" >>"$FLEET/hooks.log"
}

# How many processes have one of the lines of stdin as an argument.
count() {
    # shellcheck disable=SC2062  # they are names; the patterns come from stdin
    grep -lsazx -f - /proc/[0-9]*/cmdline | wc -l
}

others() {
    for port in $FLEET_PORTS; do
        [ "$port" = "$LLMUX_PORT" ] || echo "$port"
    done
}

status=0
beside=0
if [ "$LLMUX_HOOK" = wake ]; then
    beside=$(others | count)
fi
line start "$beside"
trap 'line end $?' EXIT
trap 'exit 143' TERM

fault=$FLEET/faults/$LLMUX_MODEL.$LLMUX_HOOK
if read -r what amount <"$fault"; then
    case $what in
        until) # an hour may be told of, and it is over by itself
            [ "$(date +%s)" -ge "$amount" ] || exit 1
            ;;
        *)
            rm -f "$fault"
            case $what in
                fail) exit 1 ;;
                hang) sleep 1000 ;;
                slow) sleep "$amount" ;;
            esac
            ;;
    esac
fi 2>/dev/null

case $LLMUX_HOOK in
    wake) sleep "${WAKE_LINGERS:-0}" ;;
    sleep) sleep "${SLEEP_LINGERS:-0}" ;;
esac

case $LLMUX_HOOK in
    freed) # the truth: is there a process?
        [ "$(echo "$LLMUX_PORT" | count)" -eq 0 ] || status=1
        ;;
    kill)
        # shellcheck disable=SC2062
        echo "$LLMUX_PORT" | grep -lsazx -f - /proc/[0-9]*/cmdline | while IFS=/ read -r _ _ pid _; do
            kill -KILL "$pid" 2>/dev/null || true
        done
        ;;
    *)
        "$example/$LLMUX_HOOK.sh" || status=$?
        ;;
esac
exit "$status"
