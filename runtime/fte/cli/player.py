"""Sound to the loudspeaker while it is being made, through a player that is installed.

A player reads the sound from a pipe and so keeps its own pace: when its buffer and the pipe's are full, writing waits.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable

from fte.errors import BackendError

_RATE = "{rate}"
PLAYERS = (
    ("paplay", "--raw", "--format=s16le", "--channels=1", f"--rate={_RATE}"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", _RATE, "-"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", _RATE, "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", _RATE, "-i", "-"),
)
"""Commands that play 16-bit PCM of one channel from standard input: of PulseAudio, ALSA, SoX and FFmpeg."""


def find_player(rate: int) -> list[str]:
    """The command of the first player that is installed, for sound of ``rate`` Hz. Raises BackendError."""
    for name, *arguments in PLAYERS:
        if path := shutil.which(name):
            return [path, *(argument.replace(_RATE, str(rate)) for argument in arguments)]
    names = ", ".join(name for name, *_ in PLAYERS)
    raise BackendError(
        f"--play needs a player and none of {names} is installed: install one, or write a file with -o and play that"
    )


def play(command: list[str], pcm: Iterable[bytes]) -> None:
    """Play ``pcm`` as it comes, and return when the player has played it all. Raises BackendError where it cannot."""
    with tempfile.TemporaryFile() as said:
        player = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        assert player.stdin is not None
        try:
            try:
                for data in pcm:
                    player.stdin.write(data)
                    player.stdin.flush()
                player.stdin.close()
            except BrokenPipeError:
                pass  # it ended before the sound did: its status says why
            status = player.wait()
        finally:  # also where the user interrupts: nothing goes on playing
            player.kill()
            player.wait()
        if status:
            said.seek(0)
            lines = said.read(2000).decode("utf-8", "replace").split("\n")
            reason = next((line.strip() for line in lines if line.strip()), f"exit status {status}")
            raise BackendError(
                f"{command[0]} could not play the sound ({reason}): check the sound device, or write a file with -o"
            )
