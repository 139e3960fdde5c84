"""The models that people have put on this machine, and where more of them come from."""
