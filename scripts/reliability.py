"""Writes the table of docs/explanation/reliability.md from the counts of `make torture`."""

import json
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "explanation"
PAGE, COUNTS = DOCS / "reliability.md", DOCS / "reliability.json"
BEGIN = "<!-- counts: begin (make torture) -->"
END = "<!-- counts: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What bertpipe promises, and how it is tested."""

    promise: str
    how: str
    file: str


PROMISES = {
    "Exact resume": Promise(
        promise="A run stopped at any optimizer step ends with the bytes of one that was not.",
        how="Ctrl-C, SIGTERM and a crash after each step of a small run with dropout and dynamic masks, in its "
        "evaluations, before its model is in place, over windows of rows; changed params, data or code start over",
        file="tests/test_resume.py",
    ),
    "SIGKILL at a random moment": Promise(
        promise="A run killed at any moment can be resumed, and ends with the same bytes.",
        how="SIGKILL after random times, a checkpoint per step, until fifty kills",
        file="tests/process/test_kills.py",
    ),
    "Interruptions of real commands": Promise(
        promise="Commands and `dvc repro` survive Ctrl-C, SIGTERM, SIGKILL and the end of DVC; its run cache works.",
        how="Real processes under real DVC; message, exit code, files, second process",
        file="tests/process/test_interruptions.py",
    ),
    "Several processes": Promise(
        promise="Training in several processes stops, resumes and ends as in one; a killed process is replaced.",
        how="torchrun, and `runtime.processes` under the command line and real DVC: Ctrl-C, SIGKILL with and without "
        "restarts, one process to two and back; who hangs, differs or fails is named (tests/process/test_world.py)",
        file="tests/process/test_torchrun.py",
    ),
    "Every point of failure": Promise(
        promise="Whatever file operation fails or is the last one, nothing good is lost and the next run finishes.",
        how="A library loaded before the C library counts the operations (open, write, sync, rename, remove, ...) of a "
        "checkpoint, a model, a download, a conversion, a preparation and a training; the n-th fails with EIO, the "
        "disk is full from the n-th on, the process ends before the n-th or half-way through it",
        file="tests/process/test_faults.py",
    ),
    "Whole files": Promise(
        promise="What stands under a name is complete; two writers are kept apart; what a dead one left is removed.",
        how="Errors, kills, threads, symbolic links, file systems with and without exchange, refusals of the system",
        file="tests/test_files.py",
    ),
    "Other people's files": Promise(
        promise="No command replaces or removes a file that bertpipe did not write.",
        how="A user's files and links in a directory of ours or in its place; our own files edited or linked; "
        "writing broken off half-way; mount points; damaged manifests",
        file="tests/test_manifest.py",
    ),
    "Damage": Promise(
        promise="A damaged checkpoint is named, and the one before is used.",
        how="Each file cut, emptied, with a flipped bit, gone, unreadable; every byte of a manifest",
        file="tests/test_damage.py",
    ),
    "Downloads": Promise(
        promise="A download is the whole and right file, or nothing; it is resumed where it broke off.",
        how="A local server that stalls, resets, lies, changes, refuses, redirects, by rule and at random; TLS; kills",
        file="tests/test_web*.py, tests/process/test_web_faults.py, tests/test_download.py",
    ),
    "Numbers": Promise(
        promise="Losses and data at their limits have a defined answer.",
        how="NaN, overflow, spikes, nothing to predict, one class, empty splits, six words, params at their limits",
        file="tests/test_numbers.py",
    ),
    "Random command lines": Promise(
        promise="Whatever is typed and lies in a folder, a command answers or says what is wrong; no file is lost.",
        how="Random trees, names, contents, encodings, params and environments, by a seed; no traceback, no message of "
        "over 500 characters, no JSON that is none, nothing half-written, nothing of the user's changed",
        file="tests/process/test_random_commands.py",
    ),
    "Security": Promise(
        promise="Nothing that is read runs, leaves its folder, or shows a secret.",
        how="Rules over the sources, each with bad examples; malicious pickles, archives and model directories; "
        "permissions in flight; secrets in the environment",
        file="tests/test_security.py, tests/process/test_commands.py",
    ),
}


def table(counts: dict[str, dict[str, int]]) -> str:
    """Return the table in Markdown, and the number of points of failure.

    Raises:
        KeyError: a promise has no count.
    """
    lines = ["| Promise | How it is tested | Cases | Command |", "| --- | --- | ---: | --- |"]
    for name, promise in PROMISES.items():
        command = f"`BERTPIPE_TORTURE=1 pytest {promise.file.replace(',', '')}`"
        cases = f"{counts['cases'][name]:,}"
        lines.append(f"| {promise.promise} | {promise.how} | {cases} | {command} |")
    points = ", ".join(f"{name} {count}" for name, count in counts["points"].items())
    return "\n".join(lines) + f"\n\nPoints of failure, each visited by four faults: {points}.\n"


def inserted(page: str, counts: dict[str, dict[str, int]]) -> str:
    """Return the page with everything between the two marks made from the counts."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table(counts)}{END}{after}"


if __name__ == "__main__":
    counted = json.loads(COUNTS.read_text(encoding="utf-8"))
    PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), counted), encoding="utf-8")
