"""Facts that outlive the process."""
