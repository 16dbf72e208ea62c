#!/bin/sh
# Stand in for vLLM where there is no GPU: VLLM=examples/residency/pretend.sh
#
# It is called as vllm is, and runs a demo backend that holds memory of a pretended machine, refuses
# to start when that is not free, and sleeps as vLLM does.
#
# Settings, from the environment:
#   PYTHON          the Python that llmux is installed in (python3)
#   PRETEND_MEMORY  a directory with a capacity.json: {"gpu0": 24, "ram": 96}
#   PRETEND_ASLEEP  what it keeps at sleep level 1, such as ram=40 (nothing)
#   LOAD_SECS       how long it loads (2)
#   TOKENS_PER_SEC  how fast it speaks (30)
set -eu

name="" port=""
while [ "$#" -gt 0 ]; do
    case $1 in
        --served-model-name) name=$2 ;;
        --port) port=$2 ;;
    esac
    shift
done

# What llmux has given this model, in LLMUX_RESOURCE_GPU0=20 and so on, is what it takes.
needs=$(env | sed -n 's/^LLMUX_RESOURCE_\([A-Z0-9_]*\)=\(..*\)$/\1=\2/p' | tr '[:upper:]' '[:lower:]' |
    paste -sd, -)
exec "${PYTHON:-python3}" -m llmux.demo --model "$name" --port "$port" \
    --memory "${PRETEND_MEMORY:?a directory}" --needs "$needs" \
    --asleep-needs "${PRETEND_ASLEEP:-}" --load-secs "${LOAD_SECS:-2}" \
    --tokens-per-sec "${TOKENS_PER_SEC:-30}"
