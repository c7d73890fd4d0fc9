"""`python -m app` is `askaloud`."""

from app.cli import main

if __name__ == "__main__":  # a recognising process that is spawned imports this module again
    main()
