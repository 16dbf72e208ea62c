#!/bin/sh
# End every backend that the demo's wake.sh started.
#
#     examples/demo/stop-all.sh [STATE_DIR]
#
# STATE_DIR is where llmux keeps its state; by default the directory that holds the state of every
# config, so that the demo's backends are found whichever config started them.
set -eu

state_dir=${1:-${XDG_STATE_HOME:-$HOME/.local/state}/llmux}

# Whether process $1 is a backend of the demo: the number in an old pid file may be another's now.
is_backend() {
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || ps -ww -o args= -p "$1" || true)
    case "$command " in
        *" llmux.demo "*" --port "*) return 0 ;;
        *) return 1 ;;
    esac
}

if [ ! -d "$state_dir" ]; then
    exit 0
fi

find "$state_dir" -type f -name backend.pid | while IFS= read -r pid_file; do
    pid=$(cat "$pid_file")
    if [ -n "$pid" ] && is_backend "$pid"; then
        kill -TERM "$pid" 2>/dev/null || true
        tries=0
        while is_backend "$pid"; do
            tries=$((tries + 1))
            if [ "$tries" -eq 50 ]; then
                kill -KILL "$pid" 2>/dev/null || true
            elif [ "$tries" -eq 100 ]; then
                echo "stop-all.sh: process $pid cannot be ended" >&2
                exit 1
            fi
            sleep 0.1
        done
        echo "stop-all.sh: ended process $pid" >&2
    fi
    rm -f "$pid_file"
done
