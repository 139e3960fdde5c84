"""How devices and people find the hub on the local network without knowing its address."""

from __future__ import annotations

from xiaozhi_hub.discovery.announce import Discovery, network_addresses
from xiaozhi_hub.discovery.ask import FoundHub, find_hubs, resolve_one_shot

__all__ = ["Discovery", "FoundHub", "find_hubs", "network_addresses", "resolve_one_shot"]
