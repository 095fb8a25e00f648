"""python -m tips_bench: the command line."""

from tips_bench.cli.main import main

if __name__ == "__main__":
    main()
