"""The picture of an utterance: what is in it, where it is written, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from fte.errors import RequestError
from fte.plot import plot_utterance

T, M = 30, 16
SYMBOLS = ["@HH", "@AH0", " ", "$", "@"]


def utterance(symbols=SYMBOLS, flows=2, gate=True) -> dict:
    rng = np.random.default_rng(0)
    return {
        "mel": rng.uniform(-11, 1, (T, M)),
        "attentions": [rng.dirichlet(np.ones(len(symbols)), T) for _ in range(flows)],
        "gate": rng.uniform(0, 1, T) if gate else None,
        "symbols": symbols,
        "title": "Hello",
        "hop_seconds": 0.1,
    }


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw an utterance and give the matplotlib figure, which is not rendered: that takes most of a second."""
    figure_module = pytest.importorskip("matplotlib.figure")
    figures = []
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda figure, path, **options: figures.append(figure))

    def run(**changes):
        plot_utterance(tmp_path / "a.png", **(utterance() | changes))
        return figures[-1]

    return run


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89P")]
)
def test_the_suffix_chooses_the_format(tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    plot_utterance(tmp_path / f"a{suffix}", **utterance(flows=1, gate=False))
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(magic)


def test_there_is_a_panel_for_the_mel_each_flow_and_the_gate(draw):
    labels = [axes.get_ylabel() for axes in panels(draw())]
    assert labels == ["mel channel", "symbol, flow 0", "symbol, flow 1", "gate"]


def test_without_a_gate_there_is_no_panel_for_it(draw):
    assert [axes.get_ylabel() for axes in panels(draw(**utterance(flows=1, gate=False)))] == [
        "mel channel",
        "symbol, flow 0",
    ]


def test_every_panel_spans_the_seconds_of_the_utterance(draw):
    for axes in panels(draw()):
        np.testing.assert_allclose(axes.get_xlim(), (0.0, T * 0.1))


def test_frames_run_to_the_right_and_symbols_upwards(draw):
    given = utterance()
    image = panels(draw(**given))[1].images[0]
    np.testing.assert_array_equal(image.get_array(), given["attentions"][0].T)
    assert image.origin == "lower"


def test_symbols_are_readable(draw):
    labels = [label.get_text() for label in panels(draw())[1].get_yticklabels()]
    assert labels == ["HH", "AH0", "␣", "$", "@"]


def test_many_symbols_are_thinned_out_evenly(draw):
    symbols = [f"@S{n}" for n in range(100)]
    axes = panels(draw(**utterance(symbols)))[1]
    ticks = axes.get_yticks()
    assert 20 <= len(ticks) <= 40
    assert set(np.diff(ticks)) == {ticks[1] - ticks[0]}
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"S{tick}" for tick in ticks]


def test_dollars_are_no_formula(tmp_path):
    pytest.importorskip("matplotlib")
    broken_formula = "from $5^$ to $6_$"
    plot_utterance(tmp_path / "a.png", **(utterance(["$5^$"], flows=1) | {"title": broken_formula}))


def test_a_long_title_is_cut_after_two_lines(draw):
    lines = draw(title="word " * 200).get_suptitle().split("\n")
    assert len(lines) == 2
    assert lines[1].endswith("…")


def test_pyplot_is_left_alone(tmp_path):
    pytest.importorskip("matplotlib")
    script = (
        "import sys; import fte.plot; assert 'matplotlib' not in sys.modules\n"
        "fte.plot.plot_utterance(sys.argv[1], [[0.0]], [[[1.0]]], None, ['a'], '', 0.01)\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.png")], check=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mel": np.zeros(5)}, r"the mel spectrogram must have the shape \(any, any\), not \(5,\)"),
        ({"mel": np.zeros((0, M))}, "the mel spectrogram must have the shape"),
        ({"mel": np.full((T, M), np.nan)}, "the mel spectrogram has values that are not finite"),
        ({"attentions": [np.zeros((T, 5)), np.zeros((T, 4))]}, r"the attention of flow 1 .* \(30, 5\), not \(30, 4\)"),
        ({"gate": np.zeros(T - 1)}, r"the gate must have the shape \(30,\), not \(29,\)"),
        ({"hop_seconds": 0.0}, "time between frames"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changes, message):
    with pytest.raises(RequestError, match=message):
        plot_utterance(tmp_path / "a.png", **(utterance() | changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_other_formats_are_refused(tmp_path, name):
    with pytest.raises(RequestError, match=r"must end in one of \.png, \.pdf, \.svg"):
        plot_utterance(tmp_path / name, **utterance())


def test_a_picture_in_a_missing_folder_is_a_request_error(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(RequestError, match="cannot write"):
        plot_utterance(tmp_path / "no" / "a.png", **utterance())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RequestError, match=r"flowtron-fte\[plot\]"):
        plot_utterance(tmp_path / "a.png", **utterance())
