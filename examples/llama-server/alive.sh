#!/bin/sh
# Exit with 0 if this model's llama-server is healthy.
set -eu

exec curl -fsS -m 5 -o /dev/null "${LLMUX_URL:?llmux sets it}/health"
