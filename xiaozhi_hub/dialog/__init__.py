"""A turn: from sound to words to an answer and back to sound."""
