"""Things in the house with a state and an area."""
