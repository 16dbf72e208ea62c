#!/bin/sh
# Have Ollama load this model, and keep it until it is told otherwise.
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
deadline=${LLMUX_DEADLINE:-600}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))

fail() {
    echo "wake.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

# Post to Ollama; $1 is the path, $2 the body. Sets status, which is 000 if there was no answer, and
# answer, its body.
post() {
    left=$((end - $(date +%s)))
    [ "$left" -ge 1 ] || left=1
    answer=$(curl -sS -m "$left" -w '\n%{http_code}' -d "$2" "$LLMUX_URL$1") || true
    status=${answer##*
}
    answer=${answer%
*}
}

command -v curl >/dev/null || fail "curl is missing; install it"
case $LLMUX_MODEL in
    *[\"\\]*) fail "Ollama has no model with such a name" ;;
esac

# A request without a prompt only loads the model. An answer comes when it is loaded.
model="\"model\": \"$LLMUX_MODEL\", \"keep_alive\": -1"
post /api/generate "{$model, \"stream\": false}"
if [ "$status" = 400 ]; then
    # A model that can only embed does not generate, not even nothing.
    post /api/embed "{$model, \"input\": []}"
fi
case $status in
    200) ;;
    000) fail "Ollama does not answer at $LLMUX_URL; start it, or look into its log" ;;
    404) fail "Ollama does not have this model; run: ollama pull $LLMUX_MODEL" ;;
    *) fail "Ollama answers $status: $answer" ;;
esac
