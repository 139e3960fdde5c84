"""Pieces of hardware: who may come in, what they can do, and the conversations with them."""
