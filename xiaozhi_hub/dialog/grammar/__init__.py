"""All that can be said, as an automaton: sentence templates, their slots filled, joined and made small."""
