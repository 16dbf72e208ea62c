"""The status document, for people: a table of the models, and a line for whatever is going on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmux.amounts import shown

_HEADINGS = ("MODEL", "STATE", "SINCE", "IN FLIGHT", "WAITING", "LAST HOOK")
_RIGHT = ("SINCE", "IN FLIGHT", "WAITING")  # columns of numbers
_GAP = 2  # characters between two columns
_SHORTEST_NAME = 12
_MANY = 1000  # columns where there is no terminal
_HOOKS = ("wake", "sleep", "freed", "kill", "stop", "prepare")  # those that change something


def render(status: Mapping[str, Any], columns: int | None = None) -> str:
    """
    Write a status document for people.

    :param status: as ``GET /llmux/status`` gives it.
    :param columns: how wide the terminal is; long names are shortened for it.  ``None``: wide
        enough.
    """
    width = columns or _MANY
    lines = [
        f"llmux {status['version']}, {status['phase']}, up for {lasting(status['uptime_secs'])}"
        f" (pid {status['pid']})",
        *_config_lines(status["config"]),
        *_resource_lines(status["resources"]),
        "",
        *_models(status, width),
    ]
    notes = list(_notes(status))
    if notes:
        lines.append("")
    for note in notes:
        lines += textwrap.wrap(note, width, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)


def render_reservations(reservations: Sequence[Mapping[str, Any]]) -> str:
    """Write a list of reservations for people."""
    if not reservations:
        return "nothing is reserved"
    rows = [("RESERVATION", "NEEDS", "STATE", "SINCE", "NOTE")]
    for each in reservations:
        rows.append(
            (each["id"], _room(each), each["state"], lasting(each["since_secs"]),
             each["note"])
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths, right=()) for row in rows)


def render_recording(recording: Mapping[str, Any]) -> str:
    """Write for people what is recorded, or was."""
    path, rows, lost = (recording[key] for key in ("path", "rows", "lost"))
    if recording["since"] is None:
        return "nothing is recorded"
    counts = f"requests recorded: {rows}" + (f", lost: {lost}" if lost else "")
    if path is None:
        return f"nothing is recorded any more; {counts}"
    return f"recording to {path} since {recording['since']}; {counts}"


def lasting(seconds: float) -> str:
    """Say how long something lasts in seven characters or less."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    for unit, size, below in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 48 * 3600)):
        if seconds < below:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def _config_lines(config: Mapping[str, Any]) -> Iterator[str]:
    if config["path"] is not None:
        changed = "; changed since it was read (llmux reload)" if config["modified"] else ""
        yield f"{config['path']}{changed}"


def _resource_lines(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    told = [f"{r['name']} {shown(r['used'])} of {shown(r['capacity'])}" for r in resources]
    if told:
        yield ", ".join(told)


def _models(status: Mapping[str, Any], width: int) -> list[str]:
    """Write the table of models; where they are, if there is more than one place to be."""
    rows = [_HEADINGS, *map(_row, status["models"])]
    if status["resources"]:
        places = ["WHERE", *map(_place, status["models"])]
        rows = [(*row[:2], place, *row[2:]) for row, place in zip(rows, places, strict=True)]
    return _table(rows, width)


def _place(model: Mapping[str, Any]) -> str:
    where = "" if model["placement"] is None else ",".join(model["placement"])
    return f"{where} (pinned)".strip() if model["pinned"] else where


def _room(reservation: Mapping[str, Any]) -> str:
    return _amounts(reservation["needs"]) or "everything"


def _amounts(needs: Mapping[str, float]) -> str:
    return ",".join(f"{name}={shown(amount)}" for name, amount in needs.items())


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    waiters = model["waiters"]
    oldest = "" if not waiters["count"] else f" ({lasting(waiters['oldest_secs'] or 0)})"
    return (
        model["name"],
        model["state"],
        lasting(model["since_secs"]),
        str(model["leases"]),
        f"{waiters['count']}{oldest}",
        _last_hook(model["hooks"]),
    )


def _last_hook(hooks: Mapping[str, Any]) -> str:
    name = _latest(hooks)
    if name is None:
        return ""
    result = hooks[name]["result"]
    if result == "success":
        return f"{name} {lasting(hooks[name]['duration_secs'])}"
    return f"{name} runs" if result == "running" else f"{name} {result}"


def _latest(hooks: Mapping[str, Any]) -> str | None:
    """Choose the hook that runs, or that has ended last."""
    ended = {name: hooks[name]["ended_secs_ago"] for name in _HOOKS if name in hooks}
    return min(ended, key=lambda name: -1 if ended[name] is None else ended[name], default=None)


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths[1:]) + _GAP * len(widths[1:])
    widths[0] = min(widths[0], max(_SHORTEST_NAME, width - others))
    right = [number for number, name in enumerate(rows[0]) if name in _RIGHT]
    return [_line([_shortened(row[0], widths[0]), *row[1:]], widths, right) for row in rows]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return (" " * _GAP).join(padded).rstrip()


def _shortened(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    kept = width - 3
    return f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"


def _notes(status: Mapping[str, Any]) -> Iterator[str]:
    """Say what is going on, and what went wrong."""
    for switch in status["switches"]:
        yield _switch(switch)
    for shared in status["first_awake"]:
        if shared["waiters"]["count"]:
            oldest = lasting(shared["waiters"]["oldest_secs"] or 0)
            models = ", ".join(shared["models"])
            yield f"{shared['name']} ({models}): {shared['waiters']['count']} waiting ({oldest})"
    for worker in status["workers"]:
        yield _worker(worker)
    for each in status["reservations"]:
        note = f": {each['note']}" if each["note"] else ""
        since = lasting(each["since_secs"])
        yield f"reserved, {each['state']} for {since}: {_room(each)}{note}"
    for order in status["orders"]:
        asked = f"{order['order']} {order['model']}".strip()
        yield f"ordered {lasting(order['waiting_secs'])} ago, not done yet: {asked}"
    for model in status["models"]:
        for trouble in _troubles(model):
            yield f"{model['name']}: {trouble}"


def _worker(worker: Mapping[str, Any]) -> str:
    number, restarts = worker["worker"], worker["restarts"]
    again = f", started again {restarts} times" if restarts else ""
    if worker["pid"] is None:
        return f"worker {number} is not running{again}"
    busy = f"{worker['in_flight']} in flight, {worker['waiting']} waiting"
    return f"worker {number} (process {worker['pid']}): {busy}{again}"


def _switch(switch: Mapping[str, Any]) -> str:
    leaving, target = ", ".join(switch["from"]), switch["to"]
    stopped = ", ".join(switch["stops"])
    if target is None and not leaving:
        what = f"stopping {stopped}" if stopped else "making room"
    elif target is None:
        what = f"putting {leaving} to sleep"
    else:
        what = f"switching from {leaving} to {target}" if leaving else f"waking {target}"
    flying = f", {switch['leases']} in flight" if switch["leases"] else ""
    since = lasting(switch["phase_since_secs"])
    return f"{what}: {switch['phase']} for {since}{flying}; {switch['why']}"


def _troubles(model: Mapping[str, Any]) -> Iterator[str]:
    hooks, back_off, health = model["hooks"], model["back_off"], model["health"]
    name = _latest(hooks)
    if name is not None and hooks[name]["result"] == "failed":
        yield f"{name} {hooks[name]['how']}, {lasting(hooks[name]['ended_secs_ago'] or 0)} ago"
    if back_off["wake_secs"] > 0:
        yield f"is not woken for another {lasting(back_off['wake_secs'])}"
    if back_off["sleep_secs"] > 0:
        yield f"is not put to sleep for another {lasting(back_off['sleep_secs'])}"
    if health["alive"] == "disagrees":
        yield f"alive disagrees ({health['failures']} in a row)"
    if model["removed"]:
        yield "is not in the configuration any more"
