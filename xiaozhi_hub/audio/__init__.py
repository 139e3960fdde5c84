"""Sound: PCM, Opus, Ogg, and when to send and when to stop listening."""
