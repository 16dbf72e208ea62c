#!/bin/sh
# Exit with 0 if this model's backend is healthy.
set -eu

exec "${PYTHON:-python3}" "$(dirname "$0")/../../llmux/demo/check.py" \
    "${LLMUX_URL:?llmux sets it}/health"
