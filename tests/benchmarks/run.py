"""Runs benchmarks and prints their figures: `python tests/benchmarks/run.py [start ask decode ingest served]`."""

import argparse
import importlib
import tempfile
from pathlib import Path

NAMES = ("start", "decode", "ask", "ingest", "served")


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    names = parser.parse_args().names or NAMES
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for figure in importlib.import_module(f"bench_{name}").measure(Path(folder)):
                beside = f"   {figure.ratio:.2f} × {figure.peer} ({figure.peer_value:.3g} {figure.unit})" if figure.ratio else ""
                target = f"   target {figure.target}" if figure.target else ""
                print(f"{figure.name:60} {figure.value:10.3g} {figure.unit}{beside}{target}", flush=True)


if __name__ == "__main__":
    main()
