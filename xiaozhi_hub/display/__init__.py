"""Characters as devices draw them: finding a font, and drawing what a device lacks."""
