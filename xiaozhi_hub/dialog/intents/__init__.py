"""From a sentence to a tool, without a language model."""
