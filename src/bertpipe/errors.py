"""Every error a user can mend: each message names the value, the limit and the next step."""


class BertpipeError(Exception):
    """A problem in the user's input, files or machine; the command line shows its message and exits with 1."""


class ParamsError(BertpipeError):
    """`params.yaml` cannot be read, or one of its values is out of its limits."""


class MissingInputError(BertpipeError):
    """A file or directory that a stage reads does not exist."""


class DownloadError(BertpipeError):
    """A source could not be fetched, or what came is not what was asked for."""


class DataError(BertpipeError):
    """A data file breaks the contract: the message names the file and, where there is one, the row."""


class ModelError(BertpipeError):
    """A model directory is missing, damaged, or does not fit the data or the input."""


class TrainingError(BertpipeError):
    """Training cannot go on, for example because a loss is not finite."""


class InputError(BertpipeError):
    """A sentence given to a model cannot be answered: it is empty, too long, or has no `[MASK]`."""
