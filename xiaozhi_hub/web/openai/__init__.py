"""The hub in the form of the OpenAI API."""
