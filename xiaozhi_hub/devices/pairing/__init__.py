"""Who may come in, decided for every transport: approval, a door that may stand open, a token for each device."""
