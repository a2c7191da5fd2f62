"""Diseases, one module each: ``TUMOUR = TumourType(...)``."""
