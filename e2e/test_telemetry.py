"""Every metric and every log event that dashboards and queries of 2.4.0 rely on."""

from __future__ import annotations

from pathlib import Path

from e2e.program import Program, answering, free_port, start, wait_until

FAMILIES = {
    "llmux_switch_total": "counter",
    "llmux_switch_duration_seconds": "histogram",
    "llmux_switch_drain_duration_seconds": "histogram",
    "llmux_model_active_duration_seconds": "histogram",
    "llmux_switch_cost_ema_seconds": "gauge",
    "llmux_request_queue_depth": "gauge",
    "llmux_request_queue_wait_seconds": "histogram",
    "llmux_model_in_flight": "gauge",
    "llmux_requests_total": "counter",
    "llmux_request_duration_seconds": "histogram",
    "llmux_hook_duration_seconds": "histogram",
    "llmux_hook_failures_total": "counter",
}

EVENTS = {
    "switch_started": {"from", "to", "evicted"},
    "model_activated": {"model", "from", "duration_secs", "placement"},
    "switch_failed": {"model", "from", "error"},
    "sleep_hook_failed": {"model", "to", "error"},
    "request_timeout": {"model", "timeout_secs"},
    "hook_completed": {"model", "hook", "duration_secs"},
    "hook_failed": {"model", "hook", "exit_code", "duration_secs", "stderr"},
}


def test_all_of_it(tmp_path: Path, programs: list[Program], environment: dict[str, str]) -> None:
    """After some traffic, good and bad, every family and every event is there."""
    port = free_port()
    config = tmp_path / "config.yaml"
    with answering() as backend:
        provoke(config, port, backend, programs, environment)


def provoke(
    config: Path, port: int, backend: int, programs: list[Program], environment: dict[str, str]
) -> None:
    """Have everything happen, and look at what is told of it."""
    config.write_text(
        f"""\
port: {port}
models:
  good: {{port: {backend}, wake: "true", sleep: "true"}}
  other: {{port: {backend}, wake: "true", sleep: "true"}}
  broken: {{port: 1, wake: "echo no memory >&2; exit 7", sleep: "true"}}
  slow: {{port: 1, wake: sleep 0.5, sleep: exit 3, request_timeout_secs: 0.1}}
"""
    )
    program = start(programs, config, port, environment, "--log-format", "json")
    statuses = [
        program.post("/v1/chat/completions", {"model": model})[0]
        for model in ("good", "other", "broken", "slow", "nobody")
    ]
    assert statuses == [200, 200, 503, 504, 404]
    # it has to wait for the slow model's wake, and then for a sleep that fails
    assert program.post("/v1/chat/completions", {"model": "good"})[0] == 503

    exposition = program.get("/metrics")[1]
    for family, kind in FAMILIES.items():
        assert f"# TYPE {family} {kind}\n" in exposition
        assert f"\n{family}" in exposition.replace(f"# TYPE {family}", "")
        if kind == "histogram":
            assert f"{family}_bucket{{" in exposition
    assert program.metric('llmux_requests_total{model="",status="404"}') == 1
    assert 'model="nobody"' not in exposition
    assert program.metric('llmux_hook_failures_total{hook="wake",model="broken"}') == 1

    events = program.events()
    assert all({"event", "time", "level"} <= set(event) for event in events)
    for name, fields in EVENTS.items():
        found = [event for event in events if event["event"] == name]
        assert found, name
        assert all(fields <= set(event) for event in found), name
    (failed,) = (e for e in events if e["event"] == "hook_failed" and e["hook"] == "wake")
    assert (failed["model"], failed["exit_code"]) == ("broken", 7)
    assert failed["stderr"] == "no memory"


def test_text_is_for_people(
    tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """Without --log-format json the log tells a story, one line each."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(f"port: {port}\nmodels: {{a: {{port: 1, wake: 'true', sleep: 'true'}}}}\n")
    program = start(programs, config, port, environment)
    program.post("/v1/x", {"model": "a"})
    wait_until(lambda: "info  POST /v1/x for a: 502" in program.printed())
    assert "info  switching from idle to a\n" in program.printed()
