"""The errors a user of fte can meet: one sentence each, with what was given, what was expected and what to do."""


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
