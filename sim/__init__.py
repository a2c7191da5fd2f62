if __name__ == "sim":
    raise ImportError("import oncoscale.sim, after: pip install -e .")
