"""What devices can do by themselves, in whatever protocol they tell of it."""
