#!/bin/sh
# Every hook of the models of e2e/faults. It notes that it runs, does what a test has told it to do
# wrong, and then what it is for.
set -eu

house=${FAULTS_HOUSE:?} python=${PYTHON:?} here=$(dirname "$0")
cd "${LLMUX_STATE_DIR:?}"
echo $$ >"$house/hook"
echo "$LLMUX_HOOK $LLMUX_MODEL $LLMUX_REASON" >>"$house/calls"

fault=$house/faults/$LLMUX_MODEL.$LLMUX_HOOK
if [ -e "$fault" ]; then
    # shellcheck source=/dev/null
    . "$fault"
fi

healthy() {
    "$python" -I -S "$here/../../llmux/demo/check.py" "$LLMUX_URL/health"
}

runs() {
    [ -e engine.pid ] && grep -qs '^State:.[^ZX]' "/proc/$(cat engine.pid)"/task/*/status
}

case $LLMUX_HOOK in
    wake)
        if runs && healthy; then exit 0; fi
        rm -f engine.ready
        setsid "$python" -I -S "$here/engine.py" "$LLMUX_PORT" "$house" &
        echo $! >engine.pid
        until [ -e engine.ready ]; do
            runs || exit 1
            sleep 0.02
        done
        ;;
    sleep | kill | stop)
        if runs; then
            kill -KILL "$(cat engine.pid)"
            while runs; do sleep 0.02; done
        fi
        rm -f engine.pid
        ;;
    alive) healthy ;;
    freed) if runs; then exit 1; fi ;;
esac
