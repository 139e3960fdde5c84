"""In what firmware builds differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class FirmwareProfile:
    """The habits of one firmware build. The default is firmware 2.4 on a board with a 24 kHz speaker."""

    version: str = "2.4.2"
    board: str = "bread-compact-wifi"
    queue_packets: int = 40
    """What the decode queue holds (audio_service.h; 10 in 1.6.2): more is dropped."""
    drains: bool = True
    """After ``tts stop`` it plays its queue to the end before it listens again (from 2.2.2 on; before, it cuts)."""
    settle_ms: float = 0.0
    """How long its main task takes to act on ``tts start``: audio that comes meanwhile is wiped."""
    answers_pings: bool = True
    features: tuple[str, ...] | None = ("mcp",)
    """What its hello claims; None: the hello has no ``features`` at all (before 1.6.6)."""
    text_font: Mapping[str, object] | None = None
    """The font of a build that takes glyphs (from 2.4.0 on): ``bundle``, ``charset``, ``size``, ``bpp``."""
    answers_mcp: bool = True
    parts: tuple[str, ...] = ("screen", "battery")
    """What the board has beside a speaker: ``screen``, ``battery``, ``camera``, ``lamp``."""
    stores_session_id: bool = True
    """It puts the hub's session id into its messages; before 1.6.6 it sends an empty one."""
    protocol_version: int | None = None
    """Binary framing to use whatever the check-in says."""
    hello_seconds: float = 10.0
    """How long it waits for the hub's hello."""
    activation_version: int = 1
    """2 for boards with a serial number in their fuses: they sign the hub's challenge."""
    pending_seconds: float = 3.0
    """How long it waits after the hub said that nobody has approved it yet."""
    unclear_seconds: float = 10.0
    """… after any other answer (application.cc)."""
    plays_while_listening: bool = False
    """It plays what comes before ``tts start`` (before 1.7.2); ``tts start`` then throws away the rest."""
    listens_after_wake_abort: bool = True
    """The wake word in an answer makes it listen at once (from 2.2.3 on); before, it waits for ``tts stop``."""
    reports_display: bool = True
    """Its check-in describes the display (from 2.0 on)."""

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def speaks_mcp(self) -> bool:
        """Its tools are told over MCP; else it describes things (before 1.8)."""
        return self.features is not None and "mcp" in self.features


PROFILES: Mapping[str, FirmwareProfile] = MappingProxyType(
    {
        "1.6.2": FirmwareProfile(
            version="1.6.2",
            queue_packets=10,
            drains=False,
            features=None,
            answers_mcp=False,
            stores_session_id=False,
            plays_while_listening=True,
            listens_after_wake_abort=False,
            reports_display=False,
        ),
        "1.7": FirmwareProfile(
            version="1.7.7",
            drains=False,
            features=(),
            answers_mcp=False,
            listens_after_wake_abort=False,
            reports_display=False,
        ),
        "1.8": FirmwareProfile(version="1.8.0", drains=False, listens_after_wake_abort=False, reports_display=False),
        "2.0": FirmwareProfile(version="2.0.0", drains=False, listens_after_wake_abort=False),
        "2.2.2": FirmwareProfile(version="2.2.2", board="esp-hi", answers_pings=False, listens_after_wake_abort=False),
        "2.4.2": FirmwareProfile(version="2.4.2", activation_version=2, settle_ms=60.0),
    }
)
"""One build for each generation that a hub meets, oldest first. 1.7 is one configured for IoT; esp-hi is the board that was
seen not to answer pings."""
