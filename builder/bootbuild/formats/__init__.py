"""File formats: reading what is given, and editing it. Each module knows one format and no target."""
