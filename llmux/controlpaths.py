"""What clients may not ask a backend for, unless its owner says otherwise."""

DEFAULT_BLOCKED_PATHS = (
    # vLLM: puts the engine to sleep behind our back and runs any of its methods
    # (VLLM_SERVER_DEV_MODE), stops generation, ends requests, scales, replaces weights and adapters
    # that all requests are answered with, writes profiles.  Most of these ask for no API key.
    "/sleep",
    "/wake_up",
    "/collective_rpc",
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/reset_encoder_cache",
    "/pause",
    "/resume",
    "/abort_requests",
    "/scale_elastic_ep",
    "/init_weight_transfer_engine",
    "/start_weight_update",
    "/start_draft_weight_update",
    "/update_weights",
    "/finish_weight_update",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/start_profile",
    "/stop_profile",
    # SGLang: gives GPU memory back and takes it again, replaces weights and adapters, drops caches,
    # stops or slows generation, ends requests, changes settings, writes requests into files.  Its
    # /update_weights, /start_profile and /stop_profile are above.
    "/release_memory_occupation",
    "/resume_memory_occupation",
    "/update_weights_from_disk",
    "/update_weights_from_tensor",
    "/update_weights_from_distributed",
    "/update_weights_from_ipc",
    "/update_weight_version",
    "/init_weights_update_group",
    "/destroy_weights_update_group",
    "/init_weights_send_group_for_remote_instance",
    "/send_weights_to_remote_instance",
    "/post_process_weights",
    "/load_lora_adapter",
    "/load_lora_adapter_from_tensors",
    "/unload_lora_adapter",
    "/flush_cache",
    "/clear_hicache_storage_backend",
    "/hicache",
    "/pause_generation",
    "/continue_generation",
    "/slow_down",
    "/abort_request",
    "/set_internal_state",
    "/configure_logging",
    "/freeze_gc",
    "/start_expert_distribution_record",
    "/stop_expert_distribution_record",
    "/dump_expert_distribution_record",
    # llama.cpp: loads, unloads, downloads and deletes models (their list is at /v1/models, too),
    # shows, saves and erases other clients' prompts, weighs adapters for all; for its web interface
    # it runs tools and fetches any address.  Not /props: interfaces read it, and nothing can be
    # changed there unless the server was started with --props.
    "/models",
    "/slots",
    "/lora-adapters",
    "/tools",
    "/cors-proxy",
    # Another llmux: puts models to sleep and ends them, shows what hooks print.
    "/llmux",
)
"""Paths that control an inference server rather than ask its model."""
