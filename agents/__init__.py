if __name__ == "agents":
    raise ImportError("import oncoscale.agents, after: pip install -e .")
