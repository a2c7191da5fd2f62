if __name__ == "linkage":
    raise ImportError("import oncoscale.linkage, after: pip install -e .")
