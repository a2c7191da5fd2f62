if __name__ == "imaging":
    raise ImportError("import oncoscale.imaging, after: pip install -e .")
