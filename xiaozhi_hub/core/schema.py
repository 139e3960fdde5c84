"""The tree of ``configuration.yaml``: which keys there are, and which check of `fields` each value goes through.

`CONFIGURATION` is the one schema of it. It only checks and converts; the defaults are those of the dataclasses in `config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import voluptuous as vol

from xiaozhi_hub.core.fields import (
    Wrong,
    amount,
    assistant_id,
    device_id,
    domain,
    engine_ids,
    firmware_pin,
    folder,
    host_name,
    hub_address,
    integration_options,
    language,
    listen_address,
    log_level,
    milliseconds,
    model_source,
    names,
    page_origins,
    pairing,
    port,
    proxy_address,
    public_host,
    secret,
    switch,
    text,
    time_zone,
    tool_patterns,
    transport,
    websocket_urls,
    whole,
)


def group(keys: Mapping[Any, Any]) -> vol.All:
    """A group of known keys. A known key without a value, and a group without keys, count as not written."""

    def written(value: object) -> object:
        if isinstance(value, dict):
            return {key: each for key, each in value.items() if each is not None or key not in keys}
        return {} if value is None else value

    return vol.All(written, {key if callable(key) else vol.Optional(key): check for key, check in keys.items()})


def _devices_once(value: object) -> object:
    seen: dict[str, str] = {}
    for key in value if isinstance(value, dict) else ():
        try:
            known = device_id(key)
        except Wrong:
            continue  # told by the check that follows
        if known in seen:
            raise Wrong("each device once", f"{seen[known]} is the same one.", [key], of_key=True)
        seen[known] = key
    return value


CONFIGURATION = vol.Schema(
    group(
        {
            "hub": group({"name": host_name, "language": language, "time_zone": time_zone, "data_dir": folder}),
            "server": group({"ip": listen_address, "port": port, "http_port": port, "auth_key": secret}),
            "http": group(
                {
                    "public_host": public_host,
                    "websocket_urls": websocket_urls,
                    "moved_to": hub_address,
                    "origins": page_origins,
                }
            ),
            "discovery": group({"enabled": switch}),
            "voice": group(
                {
                    "vad": engine_ids,
                    "asr": engine_ids,
                    "tts": engine_ids,
                    "llm": engine_ids,
                    "vision": engine_ids,
                    "silence": group(
                        {
                            "complete_ms": milliseconds(60, 5000),
                            "extendable_ms": milliseconds(60, 5000),
                            "unfinished_ms": milliseconds(60, 5000),
                            "unknown_ms": milliseconds(60, 5000),
                            "learn": switch,
                        }
                    ),
                    "speed": amount("a factor", 0.5, 2),
                    "lead_ms": milliseconds(60, 2000),
                    "phrase_cache_mb": whole("a number of megabytes", 0, 10_000),
                }
            ),
            "conversation": group(
                {"idle_s": amount("a number of seconds", 5, 109), "farewell": switch, "check_wake_words": switch}
            ),
            "assistants": group(
                {
                    assistant_id: group(
                        {
                            "name": text,
                            "persona": text,
                            "language": language,
                            "voice": text,
                            "speed": amount("a factor", 0.5, 2),
                            "volume": amount("a factor", 0, 2),
                            "asr": engine_ids,
                            "llm": engine_ids,
                            "tts": engine_ids,
                            "tools": tool_patterns,
                            "memory": switch,
                            "rooms": names,
                        }
                    )
                }
            ),
            "devices": vol.All(
                _devices_once,
                group(
                    {
                        "pairing": pairing,
                        device_id: group(
                            {
                                "name": text,
                                "area": text,
                                "language": language,
                                "firmware": firmware_pin,
                                "assistant": assistant_id,
                                "transport": transport,
                                "framing": whole("a version of the binary framing", 1, 3),
                            }
                        ),
                    }
                ),
            ),
            "display": group({"glyph_push": switch, "font": folder}),
            "history": group(
                {"enabled": switch, "audio": switch, "photos": switch, "keep_days": whole("a number of days", 1, 36500)}
            ),
            "memory": group({"enabled": switch, "engine": engine_ids}),
            "log": group({"level": log_level, "folder": folder, "json": switch}),
            "limits": group(
                {
                    "devices": whole("a number of devices", 1, 100_000),
                    "message_bytes": whole("a number of bytes", 1024, 1_048_576),
                    "frames_per_second": whole("a number of frames", 20, 1000),
                    "json_per_second": whole("a number of messages", 5, 1000),
                    "downloads": whole("a number of downloads", 1, 100),
                }
            ),
            "models": group({"mirror": model_source, "releases": model_source, "proxy": proxy_address}),
            "integrations": group({domain: integration_options}),
        }
    )
)

__all__ = ["CONFIGURATION"]
