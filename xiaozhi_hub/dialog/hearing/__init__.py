"""From a microphone to words."""
