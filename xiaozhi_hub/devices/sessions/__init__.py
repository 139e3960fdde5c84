"""The devices that are connected now, and the conversations with them."""
