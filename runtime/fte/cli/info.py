"""`fte info`."""

from typing import Annotated

import typer
from rich.table import Table

from fte.bundle import Bundle
from fte.cli.common import VoiceArgument, out_console, voice_path
from fte.errors import BundleError


def info(
    voice: VoiceArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Say what a bundle is, and check every file's hash."""
    bundle = Bundle.open(voice_path(voice))
    faults = bundle.check_files()
    if as_json:
        typer.echo(bundle.manifest.to_json(), nl=False)
    else:
        _print_bundle(bundle)
    if faults:
        raise BundleError("; ".join(faults))
    if not as_json:
        out_console.print(f"{len(bundle.manifest.files)} files, all as exported.")


def _print_bundle(bundle: Bundle) -> None:
    m, f, w = bundle.manifest, bundle.manifest.flowtron, bundle.manifest.waveglow
    size = sum(entry.bytes for entry in m.files.values())
    shown = ", ".join(m.speakers[:6]) + (", ..." if len(m.speakers) > 6 else "")
    gate = "gate" if f.has_gate else "no gate"
    attention = "cumulative attention" if f.cumulative_attention else "attention"
    rows = [
        ("voice", m.name),
        ("voice hash", bundle.voice_hash[:16]),
        ("Flowtron", f"{f.n_flows} flows of {f.n_lstm_layers}+1 LSTM layers, {f.n_hidden} hidden, {attention}, {gate}"),
        ("speakers", f"{f.n_speakers}: {shown}" + (" (the model always uses speaker 0)" if f.dummy_speaker else "")),
        ("vocoder", f"WaveGlow, {w.n_flows} flows, {w.n_channels} channels" if w else "none (Griffin-Lim)"),
        ("audio", f"{m.audio.sample_rate} Hz, hop {m.audio.hop} samples, {f.n_mels} mel channels"),
        ("symbols", str(f.n_text)),
        ("precisions", ", ".join(m.graphs)),
        ("size", f"{size / 1e6:.1f} MB"),
        ("sources", ", ".join(f"{s.file} ({s.sha256[:12]})" for s in m.sources.values())),
        ("written by", m.exporter),
    ]
    table = Table(show_header=False, box=None)
    for name, value in rows:
        table.add_row(name, value, style=None)
    out_console.print(table)
    if m.warning:
        out_console.print(m.warning, style="yellow", soft_wrap=True)
