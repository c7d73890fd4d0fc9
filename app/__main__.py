"""`python -m app` is `askaloud`."""

import gc

OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's 700 cost a fifth of the start, in which hundreds of thousands of objects come to stay


def main() -> None:
    """Run a command."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    from app.cli import main as run  # noqa: PLC0415 - after the above

    run()


if __name__ == "__main__":  # a recognising process that is spawned imports this module again
    main()
