"""Ways to choose the elements that are given a colony, one module each: ``choose(candidates, count, seed) -> rows``."""
