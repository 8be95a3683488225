"""Remove what the pipeline wrote, and nothing else: files of a manifest that are as bertpipe wrote them."""

import sys
from pathlib import Path

from bertpipe.core.artifacts import EXPORT_DIR, MODEL_DIR, PARQUET_DIR, PLOTS_DIR, TIMING_FILE, ZIP_FILE
from bertpipe.core.atomic import remove_own

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Remove the outputs of the stages, and name what stays."""
    for file in (ZIP_FILE, TIMING_FILE):
        (PROJECT / file).unlink(missing_ok=True)
    texts = sorted(path for path in (PROJECT / "data" / "text").glob("*") if path.is_dir())
    for directory in (*(PROJECT / out for out in (PARQUET_DIR, MODEL_DIR, EXPORT_DIR, PLOTS_DIR)), *texts):
        if directory.is_dir():
            remove_own(directory)
        if directory.exists():
            sys.stdout.write(f"{directory.relative_to(PROJECT)} holds files that bertpipe did not write: it stays\n")


if __name__ == "__main__":
    main()
