"""Treatments, one module each: ``parse(table) -> Treatment`` and ``effect_at(nominal, delivery)``."""
