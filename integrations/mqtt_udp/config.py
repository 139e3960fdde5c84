"""Options of the MQTT and UDP transport."""

from __future__ import annotations

from typing import Any

import voluptuous as vol

TLS_PORT = 8883
"""On this port, and on no other, devices speak TLS and want a certificate from a public authority (esp_mqtt.cc)."""


def port(value: object) -> int:
    """A port, or 0 for any free one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise vol.Invalid("expected a port number from 1 to 65535")
    return value


def tcp_port(value: object) -> int:
    if port(value) == TLS_PORT:
        raise vol.Invalid(f"expected another port than {TLS_PORT}: devices speak TLS on it")
    return port(value)


def seconds(low: int, high: int) -> Any:
    def number(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise vol.Invalid(f"expected a number of seconds from {low} to {high}")
        return value

    return number


SCHEMA = vol.Schema(
    {
        vol.Optional("port", default=1884, description="TCP port of the messages"): tcp_port,
        vol.Optional("udp_port", default=8884, description="UDP port of the sound"): port,
        vol.Optional(
            "keepalive_s", default=60, description="How often an idle device says that it is there, in seconds"
        ): seconds(2, 600),
    }
)
