"""The errors a user of fte can meet: one sentence each, with what was given, what was expected and what to do."""

from collections.abc import Sequence


class FteError(Exception):
    """Base of every error whose reason lies outside the program; docs/cli.md has the command line's exit statuses."""


class CheckpointError(FteError):
    """A checkpoint file that cannot be read, is not the model it was given as, or contradicts its configuration."""


class BundleError(FteError):
    """A voice bundle that is missing files, was edited, or was written by an unknown version."""


class RequestError(FteError):
    """A request (text, speaker, sigma, shapes) outside what the voice or the limits allow."""


class InputError(RequestError):
    """A file that was given and cannot be read, or is not what it was given as."""


class OutputError(RequestError):
    """A file or folder that cannot be written where it was asked for."""


class NothingToSayError(RequestError):
    """A text without a letter or a number in it."""


class BackendError(FteError):
    """A backend or device that is not usable on this machine."""


class EngineError(BackendError):
    """A TensorRT engine is not there, is damaged, or was built for something else."""


class OutOfMemoryError(BackendError):
    """A device has no memory left for what was asked of it."""


class VerificationError(FteError):
    """An exported graph whose numbers differ from the source model by more than its tolerance."""


def import_fault(error: ImportError, packages: Sequence[str], missing: str) -> str:
    """Why packages that are optional cannot be imported, as one sentence.

    That is ``missing`` where one of them (import names, the first stands for all) is not installed; one that is there
    and broken, or lacks what it imports itself, is named with the import's own error.
    """
    root = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (root in packages or error.name in packages):
        return missing
    package = root if root in packages else packages[0]
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"the package {package} is installed and cannot be imported ({reason}): install what it lacks, or it anew"
