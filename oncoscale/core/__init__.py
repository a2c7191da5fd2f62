"""What every stage shares: quantities and units, fields, errors, the registry, named draws, safe files."""
