"""What other tools set in the environment, and must not decide: results, logs and JSON are the same everywhere."""

import getpass
import io
import logging
import os
import re
import sys
import warnings
from pathlib import Path

_ONLY_IF = {
    "COLUMNS": r"[2-9]\d|\d{3,4}",
    "LINES": r"[1-9]\d{0,3}",
    "TERMINAL_WIDTH": r"[2-9]\d|\d{3,4}",
    "NUMPY_MADVISE_HUGEPAGE": r"[01]",
    "OMP_NUM_THREADS": r"[1-9]\d{0,3}(,[1-9]\d{0,3})*",
    "OMP_SCHEDULE": r"(static|dynamic|guided|auto)(,\d+)?",
    "OMP_DYNAMIC": r"true|false",
    "OMP_PROC_BIND": r"(true|false|master|primary|close|spread)(,(master|primary|close|spread))*",
    "MKL_NUM_THREADS": r"[1-9]\d{0,3}",
    "GOMP_CPU_AFFINITY": r"[\d\s,:-]+",
    "ATEN_CPU_CAPABILITY": r"default|avx2|avx512|avx512_vnni|zvector|sve256",
}
"""Variables that libraries read, and the values that do not break them."""
_PRIVATE = 0o077
"""The mask that takes nothing from the owner."""
_NEVER = re.compile(
    r"MPLBACKEND|TQDM_.*|PYTHONWARNINGS|SOURCE_DATE_EPOCH|OMP_DISPLAY_.*|TORCH_LOGS"
    r"|TORCH_CPP_LOG_LEVEL|TORCH_SHOW_CPP_STACKTRACES|NPY_(DIS|EN)ABLE_CPU_FEATURES"
)
"""Variables that mean other programs: a notebook's backend for pictures, a build's date, a debugger's settings."""


def settle_process() -> None:
    """Open closed streams, escape what their encodings do not have, and drop settings that are not for bertpipe."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed, as by `>&-`
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in list(os.environ):
        if _NEVER.fullmatch(name) or (
            name in _ONLY_IF and not re.fullmatch(_ONLY_IF[name], os.environ[name], re.ASCII)
        ):
            del os.environ[name]
    # With umask 777 a command could not read what the one before it has written.
    os.umask(os.umask(_PRIVATE) & _PRIVATE)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number alone, and PyTorch asks for the name
        os.environ["LOGNAME"] = str(os.getuid())
    os.environ["PYTHONSAFEPATH"] = "1"  # processes that this one starts import no random.py of the current folder
    os.environ["MATPLOTLIBRC"] = os.devnull
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home directory that is not writable
    if sys.warnoptions:  # of PYTHONWARNINGS; a warning of a library is no error of the user's
        sys.warnoptions.clear()
        warnings.simplefilter("ignore")
