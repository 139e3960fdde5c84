"""From what is written to Opus packets at a device's pace."""
