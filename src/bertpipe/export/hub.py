"""Uploads to the Hugging Face hub: the only place from which bertpipe sends data."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from bertpipe.core.artifacts import VOCABULARY_TEXT_NAME
from bertpipe.core.errors import PushError, first_line
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.model.huggingface.load import is_network_error, quiet

_MESSAGE = "Export from bertpipe"
_NOT_ALLOWED = {401, 403}
_HIDDEN = "[token]"
_TOKEN = re.compile(r"[!-~]+")


def push_directory(
    directory: Path,
    files: Sequence[str],
    name: str,
    *,
    public: bool,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, str]:
    """Upload files of a directory as one commit, and return where they are.

    The token is the one that huggingface_hub finds: HF_TOKEN, or that of its login. A missing repository is created,
    private unless `public`; an existing one keeps its other files, and a note says if one
    of them is a `vocab.txt`, which some programs would read in place of this tokenizer.

    Args:
        directory: where the files lie.
        files: their names.
        name: the model on the hub, OWNER/NAME.
        public: whether everyone may see it. If not, and the repository is public, nothing is sent.
        on_progress: gets a report for the whole.
        on_note: gets the hub's remarks on the card.

    Raises:
        PushError: there is no token, the hub cannot be reached or does not take the files, or the repository is public.
    """
    token = _token(directory)
    on_progress(Progress(label="pushing to the hub", completed=0, total=None, unit="files"))
    api = HfApi(token=token)
    with _errors(directory, name, token), quiet(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # the hub's remarks on a card are UserWarnings
        if name.count("/") != 1:
            raise HFValidationError(name)
        api.create_repo(name, private=not public, exist_ok=True)
        found = api.model_info(name)
        is_private = bool(found.private)
        if not is_private and not public:
            raise PushError(f"{name} is a public model on the hub, so nothing was sent: give --public, or name another")
        operations = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=directory / file) for file in files]
        api.create_commit(name, operations, commit_message=_MESSAGE)
    if VOCABULARY_TEXT_NAME in {file.rfilename for file in found.siblings or ()} - {*files}:
        on_note(
            f"{name} has a {VOCABULARY_TEXT_NAME}, which is not of this tokenizer, and BertTokenizer would read it: "
            "remove it on the hub if it is of an earlier model"
        )
    for warning in warned:
        on_note(" ".join(str(warning.message).split()).replace(token, _HIDDEN))
    return {"pushed_to": f"{api.endpoint}/{name}", "visibility": "private" if is_private else "public"}


def _token(directory: Path) -> str:
    token = get_token()
    if not token:
        raise PushError(
            f"there is no token for the Hugging Face hub: set HF_TOKEN, or log in with `hf auth login`; "
            f"{_kept(directory)}"
        )
    if not _TOKEN.fullmatch(token):  # a client's error about such a header would quote it
        raise PushError(
            f"the token for the Hugging Face hub holds characters that no token has: set HF_TOKEN again; "
            f"{_kept(directory)}"
        )
    return token


@contextmanager
def _errors(directory: Path, name: str, token: str) -> Iterator[None]:
    """Turn errors of the hub and its client into one line without the token."""

    def fail(message: str, error: Exception) -> NoReturn:
        raise PushError(f"{message}; {_kept(directory)}".replace(token, _HIDDEN)) from error

    try:
        yield
    except HFValidationError as error:
        fail(f"{name!r} is not a name of a model on the hub: write OWNER/NAME", error)
    except OfflineModeIsEnabled as error:
        fail("HF_HUB_OFFLINE forbids the hub: unset it to push", error)
    except PushError as error:
        fail(str(error), error)
    except HfHubHTTPError as error:
        if error.response.status_code in _NOT_ALLOWED:
            fail(f"the Hugging Face hub does not let this token write {name}: use one with write access to it", error)
        fail(f"the Hugging Face hub did not take {name}: {first_line(error)}", error)
    except (ValueError, RuntimeError) as error:  # about the card, or the upload of a file
        fail(f"the Hugging Face hub did not take {name}: {first_line(error)}", error)
    except Exception as error:
        if not is_network_error(error):
            raise
        fail(f"the Hugging Face hub cannot be reached ({first_line(error)}): check the network and push again", error)


def _kept(directory: Path) -> str:
    return f"{directory} is complete"
