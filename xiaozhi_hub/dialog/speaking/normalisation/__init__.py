"""What is written, the way it is said."""
