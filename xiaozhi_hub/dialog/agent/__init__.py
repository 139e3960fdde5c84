"""How a language model answers: what it is told, which tools it sees, what it may do, and what of its words is spoken."""
