"""Pieces of hardware, and the conversations with them."""
