"""How a language model answers: what it is told, which tools it sees, what it may do, and what of its words is spoken."""

from xiaozhi_hub.dialog.agent.agent import Agent
from xiaozhi_hub.dialog.agent.dialogue import Dialogue

__all__ = ["Agent", "Dialogue"]
