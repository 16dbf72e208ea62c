#!/bin/sh
# Exit with 0 if the server in this model's container is healthy.
set -eu

exec curl -fsS -m 5 -o /dev/null "${LLMUX_URL:?llmux sets it}/health"
