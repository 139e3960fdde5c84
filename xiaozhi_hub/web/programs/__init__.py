"""The API for programs on this machine."""
