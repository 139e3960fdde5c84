"""In what firmware builds differ."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def speaks_mcp(self) -> bool:
        """Its tools are told over MCP; else it describes things (before 1.8)."""
        return self.features is not None and "mcp" in self.features
