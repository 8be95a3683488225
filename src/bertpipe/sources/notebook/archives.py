"""Several zips of CSV files as one data set: which they are, and what they have in common."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertpipe.core.errors import DataError
from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.sources.notebook.archive import open_archive


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonFacts:
    """What all zips say of themselves."""

    tokenizer: Tokenizer | None
    labels_are_true: bool
    generated: bool


def zip_files(folder: Path) -> list[Path]:
    """Return the zips of a directory, absolute, in the byte order of their names; hidden files are left out.

    Raises:
        DataError: there is none, or something else.
    """
    found = sorted((path for path in folder.absolute().iterdir() if not path.name.startswith(".")), key=os.fsencode)
    strangers = [path.name for path in found if path.suffix != ".zip" or not path.is_file()]
    if strangers or not found:
        raise DataError(
            f"{folder} holds {', '.join(strangers[:3]) or 'nothing'}, and is to hold zips of CSV files and nothing "
            "else: name another directory, or one zip"
        )
    return found


def common_facts(zips: Sequence[Path]) -> CommonFacts:
    """Return what all zips say.

    Raises:
        DataError: two of them bring different vocabularies, or say different things of their labels; or one is damaged.
    """
    facts = [_facts(path) for path in zips]
    for path, other in zip(zips[1:], facts[1:], strict=True):
        if _text(other.tokenizer) != _text(facts[0].tokenizer):
            raise DataError(
                f"{path} brings another vocabulary than {zips[0]}: an id would be two words; convert them apart"
            )
        if other.labels_are_true != facts[0].labels_are_true:
            raise DataError(
                f"of {zips[0]} and {path}, one says that its labels are the true tokens and one does not: convert them "
                "apart"
            )
    return CommonFacts(
        tokenizer=facts[0].tokenizer,
        labels_are_true=facts[0].labels_are_true,
        generated=any(each.generated for each in facts),
    )


def _facts(path: Path) -> CommonFacts:
    with open_archive(path) as archive:
        return CommonFacts(
            tokenizer=archive.tokenizer(),
            labels_are_true=archive.labels_are_true(),
            generated=archive.is_generated(),
        )


def _text(tokenizer: Tokenizer | None) -> str | None:
    return None if tokenizer is None else str(tokenizer.backend.to_str())
