#!/bin/sh
# End this model's vLLM, so that it gives back what it keeps while it is asleep.
#
# Settings, from the environment:
#   VLLM_CONTAINER  as for wake.sh
#   KILL_AFTER      as for sleep.sh
# shellcheck disable=SC1091
set -eu

. "$(dirname "$0")/engine.sh"

if is_running; then
    end_engine
fi
