"""What devices and the hub say to each other: pure translation between bytes and values, and the contract of a link."""
