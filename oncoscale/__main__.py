"""``python -m oncoscale``: the command line of this interpreter's own installation."""

from .app.cli import main

if __name__ == "__main__":
    main()
