"""What the hub can do: the only verb."""
