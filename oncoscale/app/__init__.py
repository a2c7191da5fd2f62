"""What people and scripts touch: the command line, the report, the demo. Parses, shows and schedules; no science."""
