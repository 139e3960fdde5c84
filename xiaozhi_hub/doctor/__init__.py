"""Looks at the hub as a device does, and at the machine below it; says for each thing whether it is right and what to do."""
