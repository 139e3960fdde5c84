"""What runs in the child process: the library, and all that works on its tokens. Imports nothing of the hub."""
