"""What people ask the hub to remember, and who may."""
