"""What the hub tells people without having been asked, and on which devices."""
