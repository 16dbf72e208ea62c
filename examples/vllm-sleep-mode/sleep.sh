#!/bin/sh
# Put this model's vLLM to sleep. An engine that will not, or that cannot be trusted to, is ended.
#
# Settings, from the environment:
#   SLEEP_LEVEL     1 keeps the weights in host memory, 2 throws them away (1)
#   VLLM_CONTAINER  as for wake.sh
#   KILL_AFTER      how many seconds an engine gets to end by itself before it is killed (20)
# shellcheck disable=SC1091,SC2154
set -eu

. "$(dirname "$0")/engine.sh"

command -v curl >/dev/null || fail "curl is missing; install it"
if ! healthy; then
    # Not started, broken, or still loading: whatever runs of it holds memory.
    if is_running; then
        say "the engine is not healthy; ending it"
        end_engine
    fi
    exit 0
fi

if [ -e "$waking_file" ]; then
    # It calls itself asleep until the last part is awake, and would not let go of the others.
    say "the last wake broke off; ending the engine"
    end_engine
    exit 0
fi

case $(state) in
    asleep) exit 0 ;;
    awake) ;;
    *)
        say "no /is_sleeping: start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
        end_engine
        exit 0
        ;;
esac

level=${SLEEP_LEVEL:-1}
echo "$level" >"$level_file"
if post "/sleep?level=$level"; then
    # Some versions answer before it sleeps.
    until [ "$(state)" = asleep ]; do
        in_time || fail "still awake after $deadline seconds"
        sleep 0.2
    done
else
    say "the engine will not sleep; ending it"
    end_engine
fi
