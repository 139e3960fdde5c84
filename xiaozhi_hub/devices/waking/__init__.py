"""When a device is spoken to: wake words, and which of several devices answers."""
