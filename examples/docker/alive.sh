#!/bin/sh
# Exit with 0 if the server in this model's container is healthy.
#
# Settings, from the environment:
#   HEALTH_PATH  what to ask it for (/health)
set -eu

exec curl -fsS -m 5 -o /dev/null "${LLMUX_URL:?llmux sets it}${HEALTH_PATH:-/health}"
