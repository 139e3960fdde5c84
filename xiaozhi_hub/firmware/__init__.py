"""Firmware for devices: what lies in the owner's folder, what of it is sound, and which device may have it when."""
