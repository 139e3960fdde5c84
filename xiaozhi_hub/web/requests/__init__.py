"""What comes in over HTTP, until it is understood: limits, bodies, hosts, and what is said when something is wrong."""
