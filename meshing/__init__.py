if __name__ == "meshing":
    raise ImportError("import oncoscale.meshing, after: pip install -e .")
