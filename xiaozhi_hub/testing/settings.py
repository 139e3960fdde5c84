"""How a device is set: what its tools and things change and report."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Settings:
    """Kept over connections, as in the device's memory."""

    volume: int = 70
    brightness: int = 75
    theme: str = "light"
    battery: int = 88
    charging: bool = False
    lamp: bool = False

    def report(self, parts: Collection[str]) -> dict[str, Any]:
        """The device's status, of the parts that it has."""
        report: dict[str, Any] = {"audio_speaker": {"volume": self.volume}}
        if "screen" in parts:
            report["screen"] = {"brightness": self.brightness, "theme": self.theme}
        if "battery" in parts:
            report["battery"] = {"level": self.battery, "charging": self.charging}
        report["network"] = {"type": "wifi", "ssid": "home", "signal": "strong"}
        return report
