#!/bin/sh
# Exit with 0 if Ollama holds this model.
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
# Ollama lists a model with its tag, which is "latest" if nobody gave one.
case ${LLMUX_MODEL##*/} in
    *:*) name=$LLMUX_MODEL ;;
    *) name=$LLMUX_MODEL:latest ;;
esac

answer=$(curl -fsS -m 5 "$LLMUX_URL/api/ps")
printf '%s\n' "$answer" | tr -d ' \n' | grep -Fiq "\"name\":\"$name\""
