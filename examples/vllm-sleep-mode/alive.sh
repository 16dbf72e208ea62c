#!/bin/sh
# Exit with 0 if this model's vLLM is healthy and awake.
set -eu

# A sleeping engine calls itself healthy too.
curl -fsS -m 5 -o /dev/null "${LLMUX_URL:?llmux sets it}/health"
answer=$(curl -fsS -m 5 "$LLMUX_URL/is_sleeping")
case $answer in
    *false*) exit 0 ;;
    *) exit 1 ;;
esac
