"""One module a version: how a store of the version before becomes one of it. What is written here is never edited."""
