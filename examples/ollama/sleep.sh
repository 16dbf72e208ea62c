#!/bin/sh
# Have Ollama unload this model, and return when it has.
set -eu

: "${LLMUX_MODEL:?llmux sets it}" "${LLMUX_URL:?llmux sets it}"
deadline=${LLMUX_DEADLINE:-120}
# One second before llmux loses patience, so that there is time to say why.
end=$(($(date +%s) + ${deadline%%.*} - 1))
# Ollama lists a model with its tag, which is "latest" if nobody gave one.
case ${LLMUX_MODEL##*/} in
    *:*) name=$LLMUX_MODEL ;;
    *) name=$LLMUX_MODEL:latest ;;
esac

fail() {
    echo "sleep.sh: $LLMUX_MODEL: $1" >&2
    exit 1
}

command -v curl >/dev/null || fail "curl is missing; install it"
case $LLMUX_MODEL in
    *[\"\\]*) fail "Ollama has no model with such a name" ;;
esac

status=$(curl -sS -m 10 -o /dev/null -w '%{http_code}' "$LLMUX_URL/api/generate" \
    -d "{\"model\": \"$LLMUX_MODEL\", \"keep_alive\": 0, \"stream\": false}") || refused=$?
if [ "${refused:-0}" -eq 7 ]; then
    exit 0 # nobody listens: there is no Ollama, and it holds nothing
fi
case $status in
    200 | 404) ;; # 404: it does not have this model
    *) fail "Ollama at $LLMUX_URL does not unload it (status $status); look into its log" ;;
esac

# It says so before it has done it: the model may still be answering somebody.
while true; do
    answer=$(curl -fsS -m 5 "$LLMUX_URL/api/ps") || fail "Ollama does not answer at $LLMUX_URL"
    if ! printf '%s\n' "$answer" | tr -d ' \n' | grep -Fiq "\"name\":\"$name\""; then
        exit 0
    fi
    [ "$(date +%s)" -lt "$end" ] || fail "still loaded after $deadline seconds; is it in use?"
    sleep 0.2
done
