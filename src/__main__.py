"""`python -m tabserve`, and `python -m src` in a checkout: the `tabserve` command."""

from tabserve.cli import main

if __name__ == "__main__":
    main()
