#!/bin/sh
# Exit with 0 if this model's unit is active and its server healthy.
#
# Settings, from the environment:
#   UNIT  the unit (required)
set -eu

: "${UNIT:?set it in the config: alive: UNIT=llm@NAME.service .../alive.sh}"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"

systemctl --user is-active --quiet "$UNIT"
exec curl -fsS -m 5 -o /dev/null "${LLMUX_URL:?llmux sets it}/health"
