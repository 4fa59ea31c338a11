"""`python -m medsweep` is the same as `medsweep`."""

from medsweep.cli import main

if __name__ == "__main__":
    main()
