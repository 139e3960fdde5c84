"""How integrations join the hub."""
