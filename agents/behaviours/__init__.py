"""What a cell does in an hour, one file for each kind of behaviour."""
