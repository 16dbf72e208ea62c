"""
A small OpenAI-compatible backend, for trying out llmux without a GPU.

It pretends: to load for a while, to hold a model, to speak at so many tokens a second.
``python -m llmux.demo --help`` lists its settings; ``examples/demo`` puts three behind llmux.
"""
