"""A device to test with, to measure with, and to talk to the hub without hardware."""

from __future__ import annotations

from xiaozhi_hub.testing.device import FakeDevice
from xiaozhi_hub.testing.firmware import DeviceState
from xiaozhi_hub.testing.house import running_hub, starting_hub
from xiaozhi_hub.testing.loopback import Loopback
from xiaozhi_hub.testing.playback import Playback
from xiaozhi_hub.testing.profile import PROFILES, FirmwareProfile
from xiaozhi_hub.testing.speech import Utterance, quiet, speech_end_ms
from xiaozhi_hub.testing.tools import FirmwareTool
from xiaozhi_hub.testing.turn import AlertShown, NoAnswer, TurnResult

__all__ = [
    "PROFILES",
    "AlertShown",
    "DeviceState",
    "FakeDevice",
    "FirmwareProfile",
    "FirmwareTool",
    "Loopback",
    "NoAnswer",
    "Playback",
    "TurnResult",
    "Utterance",
    "quiet",
    "running_hub",
    "speech_end_ms",
    "starting_hub",
]
