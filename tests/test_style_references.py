"""Which recordings are found, as what, and what is said about the others."""

import os
from collections import Counter
from pathlib import Path

import pytest

from fte.errors import RequestError
from fte.style import references
from fte.style.references import Found, filelist, folder, ravdess

RECORDINGS = Path(__file__).parent / "data" / "ravdess_like"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Empty files for both statements, both repetitions, two actors, and neutral, happy and sad strong."""
    for actor in ("01", "02"):
        (tmp_path / f"Actor_{actor}").mkdir()
        for style in ("01-01", "03-02", "04-02"):
            for take in ("01-01", "01-02", "02-01", "02-02"):
                (tmp_path / f"Actor_{actor}" / f"03-01-{style}-{take}-{actor}.wav").touch()
    return tmp_path


def reasons(found: Found) -> Counter[str]:
    return Counter(skipped.reason for skipped in found.skipped)


def reason_of(found: Found, name: str) -> str:
    (reason,) = (skipped.reason for skipped in found.skipped if skipped.path.name == name)
    return reason


class TestRavdess:
    def test_a_name_tells_everything(self):
        found = ravdess(RECORDINGS, emotions=["angry"], speaker="carla")
        (reference,) = found.references
        assert reference.path == RECORDINGS / "Actor_03" / "03-01-05-02-01-01-03.wav"
        assert (reference.text, reference.speaker, reference.label) == (
            "Kids are talking by the door.",
            "carla",
            "angry",
        )
        assert reference.attributes == {
            "emotion": "angry",
            "intensity": "strong",
            "statement": "01",
            "repetition": "1",
            "actor": "03",
            "sex": "male",
        }

    def test_actors_of_even_number_are_women_and_the_second_statement_is_about_dogs(self):
        (reference,) = ravdess(RECORDINGS, emotions=["sad"]).references
        assert (reference.attributes["sex"], reference.text) == ("female", "Dogs are sitting by the door.")

    def test_recordings_come_in_the_order_of_their_paths(self, corpus):
        paths = [r.path for r in ravdess(corpus).references]
        assert len(paths) == 24 and paths == sorted(paths)

    @pytest.mark.parametrize(
        ("filters", "count"),
        [
            ({"emotions": ["happy"]}, 8),
            ({"emotions": [3, "04"]}, 16),
            ({"emotions": "happy"}, 8),
            ({"intensities": ["strong"]}, 16),
            ({"intensities": ["Normal"]}, 8),
            ({"actors": [2]}, 12),
            ({"actors": ["01", "02"]}, 24),
            ({"statements": [2]}, 12),
            ({"emotions": ["sad"], "actors": [1], "statements": [1]}, 2),
        ],
    )
    def test_filters_take_names_and_numbers(self, corpus, filters, count):
        found = ravdess(corpus, **filters)
        assert len(found.references) == count
        assert len(found.skipped) == 24 - count

    def test_what_a_filter_leaves_out_is_said(self, corpus):
        assert reasons(ravdess(corpus, emotions=["happy"])) == {"another emotion was asked for": 16}

    @pytest.mark.parametrize("filters", [{"emotions": ["glad"]}, {"actors": [25]}, {"statements": [0]}])
    def test_an_unknown_filter_is_refused_with_what_there_is(self, corpus, filters):
        with pytest.raises(RequestError, match="is unknown in RAVDESS: choose from"):
            ravdess(corpus, **filters)

    def test_each_actor_may_have_a_speaker(self, corpus):
        found = ravdess(corpus, speaker={1: "anna", 2: 5})
        assert {(r.attributes["actor"], r.speaker) for r in found.references} == {("01", "anna"), ("02", 5)}

    def test_an_actor_without_a_speaker_is_skipped(self, corpus):
        assert reasons(ravdess(corpus, speaker={1: 0})) == {"no speaker was given for actor 02": 12}

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("notes.txt", "not that of a RAVDESS recording"),
            ("03-01-01-01-01-01-01.txt", "not that of a RAVDESS recording"),
            ("03-01-01-01-01-01-١١.wav", "not that of a RAVDESS recording"),
            ("01-01-01-01-01-01-01.mp4", "it is video"),
            ("03-02-01-01-01-01-01.wav", "it is sung"),
            ("03-01-09-01-01-01-01.wav", "numbers that RAVDESS does not use"),
            ("03-01-01-01-03-01-01.wav", "numbers that RAVDESS does not use"),
            ("03-01-01-01-01-01-25.wav", "an actor outside 01 to 24"),
        ],
    )
    def test_other_files_are_skipped_with_the_reason(self, corpus, name, reason):
        (corpus / name).touch()
        assert reason in reason_of(ravdess(corpus), name)

    def test_a_second_copy_of_the_data_set_does_not_count_twice(self, corpus):
        (corpus / "copy").mkdir()
        (corpus / "copy" / "03-01-01-01-01-01-01.wav").touch()
        found = ravdess(corpus)
        assert len(found.references) == 24
        assert reasons(found) == {"a file of the same name was found before it": 1}


class TestHostileFolders:
    def test_a_link_to_a_folder_is_not_followed(self, corpus):
        (corpus / "round").symlink_to(corpus)
        assert reasons(ravdess(corpus)) == {"it is a link to a folder": 1}

    def test_a_link_to_a_file_is_followed_and_one_to_nowhere_is_skipped(self, corpus, tmp_path_factory):
        target = tmp_path_factory.mktemp("cache") / "1a2b"
        target.touch()
        (corpus / "03-01-05-01-01-01-01.wav").symlink_to(target)
        (corpus / "03-01-05-01-02-01-01.wav").symlink_to("nowhere")
        found = ravdess(corpus, emotions=["angry"])
        assert [r.path.name for r in found.references] == ["03-01-05-01-01-01-01.wav"]
        assert reason_of(found, "03-01-05-01-02-01-01.wav") == "it is a link that leads nowhere"

    def test_a_pipe_is_not_opened(self, corpus):
        os.mkfifo(corpus / "03-01-05-01-01-01-01.wav")
        assert reasons(ravdess(corpus)) == {"it is a device or a pipe": 1}

    def test_a_name_that_no_terminal_can_show_is_skipped(self, corpus):
        (corpus / "a\x1b[2J.wav").touch()
        assert reasons(ravdess(corpus)) == {"its name has characters that cannot be shown": 1}

    def test_folders_too_deep_are_skipped(self, corpus):
        deep = corpus.joinpath(*"abcdefghi")
        deep.mkdir(parents=True)
        assert reasons(ravdess(corpus)) == {"it lies more than 8 folders deep": 1}

    def test_a_folder_with_too_many_files_is_refused(self, corpus, monkeypatch):
        monkeypatch.setattr(references, "MAX_ENTRIES", 25)
        with pytest.raises(RequestError, match="more than 25 files and folders"):
            ravdess(corpus)  # 24 files in 2 folders

    def test_too_many_recordings_are_refused(self, corpus, monkeypatch):
        monkeypatch.setattr(references, "MAX_REFERENCES", 23)
        with pytest.raises(RequestError, match="has 24 recordings, more than the limit of 23"):
            ravdess(corpus)

    @pytest.mark.parametrize("read", [ravdess, folder])
    def test_an_empty_folder_and_one_that_is_not_there_are_refused(self, tmp_path, read):
        with pytest.raises(RequestError, match="has no recordings to use"):
            read(tmp_path)
        with pytest.raises(RequestError, match="No such file or directory"):
            read(tmp_path / "missing")

    def test_a_folder_without_a_recording_says_what_stood_in_the_way(self, corpus):
        with pytest.raises(RequestError, match="24 skipped because another emotion was asked for"):
            ravdess(corpus, emotions=["calm"])


class TestFilelist:
    @pytest.fixture
    def listed(self, tmp_path):
        """A function that writes a list beside wavs/a.wav and wavs/b.wav."""
        (tmp_path / "wavs").mkdir()
        for name in ("a", "b"):
            (tmp_path / "wavs" / f"{name}.wav").touch()

        def write(text: str | bytes) -> Path:
            path = tmp_path / "list.txt"
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            return path

        return write

    def test_lines_of_three_and_four_columns(self, listed, tmp_path):
        found = filelist(listed("wavs/a.wav|Hello there.|7\nwavs/b.wav|{HH AY1}, you.|anna|happy\n"))
        rows = [(r.path, r.text, r.speaker, r.label) for r in found.references]
        assert rows == [
            (tmp_path / "wavs/a.wav", "Hello there.", 7, None),
            (tmp_path / "wavs/b.wav", "{HH AY1}, you.", "anna", "happy"),
        ]

    def test_a_byte_order_mark_windows_line_ends_and_empty_lines_do_no_harm(self, listed):
        found = filelist(listed("\ufeffwavs/a.wav|Hello.|0\r\n\r\nwavs/b.wav|Hello.|0|sad\r\n"))
        assert [(r.path.name, r.label) for r in found.references] == [("a.wav", None), ("b.wav", "sad")]

    def test_an_absolute_path_is_taken_as_it_is(self, listed, tmp_path):
        path = tmp_path / "wavs" / "a.wav"
        assert filelist(listed(f"{path}|Hello.|0")).references[0].path == path

    def test_a_file_that_is_not_there_is_skipped(self, listed):
        found = filelist(listed("wavs/a.wav|Hello.|0\nwavs/c.wav|Hello.|0"))
        assert reason_of(found, "c.wav") == "there is no such file"

    def test_every_faulty_line_is_named_by_its_number(self, listed):
        lines = ["wavs/a.wav|Hello.|0", "wavs/a.wav|Hello.", "", "wavs/b.wav| |0", "a\0b|Hello.|0", "a|Hello.||x"]
        with pytest.raises(RequestError) as error:
            filelist(listed("\n".join(lines)))
        said = str(error.value)
        for part in (
            "line 2: it has 2 columns, not 3 or 4",
            "line 4: its text is empty",
            "line 5: its path has",
            "line 6: its speaker is empty",
        ):
            assert part in said
        assert "line 1:" not in said and "line 3:" not in said and "\n" not in said

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("a|" + "x" * 10_001 + "|0", "line 1: its text has 10001 characters, more than the limit of 10000"),
            ("a|" + "x" * 20_000 + "|0", "line 1: it has 20004 characters, more than the limit of 15000"),
            (f"a|Hello.|{'n' * 256}", "line 1: its speaker has 256 characters, more than the limit of 255"),
        ],
    )
    def test_lengths_are_bounded(self, listed, line, says):
        with pytest.raises(RequestError, match=says):
            filelist(listed(line))

    def test_many_faults_are_cut_short(self, listed):
        with pytest.raises(RequestError, match="and 980 more"):
            filelist(listed("nothing\n" * 1000))

    def test_what_is_no_text_is_refused(self, listed):
        with pytest.raises(RequestError, match="is not text in UTF-8"):
            filelist(listed(b"a.wav|caf\xe9|0"))

    def test_a_list_that_is_too_long_is_refused(self, listed, monkeypatch):
        monkeypatch.setattr(references, "MAX_LIST_BYTES", 10)
        with pytest.raises(RequestError, match="more than the limit of 10 bytes"):
            filelist(listed("wavs/a.wav|Hello.|0"))

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(RequestError, match="it is a device or a pipe"):
            filelist(tmp_path / "pipe")


class TestFolder:
    def test_sounds_and_transcripts_are_paired_and_labelled_by_their_folder(self, tmp_path):
        (tmp_path / "happy").mkdir()
        for name in ("one", "happy/two"):
            (tmp_path / f"{name}.flac").touch()
            (tmp_path / f"{name}.txt").write_text("Hello\n  there.\n")
        found = folder(tmp_path, speaker=2)
        rows = [(r.path.name, r.text, r.speaker, r.label) for r in found.references]
        assert rows == [("two.flac", "Hello there.", 2, "happy"), ("one.flac", "Hello there.", 2, None)]
        assert found.skipped == ()

    def test_whatever_has_no_partner_is_skipped_with_the_reason(self, tmp_path):
        for name in ("a.wav", "a.txt", "a.mp3", "alone.wav", "alone.pdf", "mute.txt", "empty.wav", "empty.txt"):
            (tmp_path / name).touch()
        (tmp_path / "a.txt").write_text("Hello.")
        found = folder(tmp_path)
        assert [r.path.name for r in found.references] == ["a.mp3"]
        expected = {
            "a.wav": "another sound has the same transcript",
            "alone.wav": "it has no transcript",
            "alone.pdf": "it is neither a sound nor a transcript",
            "mute.txt": "it is a transcript without a sound beside it",
            "empty.wav": "its transcript is empty",
        }
        assert len(found.skipped) == len(expected)
        for name, reason in expected.items():
            assert reason in reason_of(found, name)

    def test_a_transcript_that_is_no_text_is_skipped(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / f"{name}.wav").touch()
            (tmp_path / f"{name}.txt").write_bytes(b"\xff\xfe" if name == "a" else b"Hello.")
        found = folder(tmp_path)
        assert [r.path.name for r in found.references] == ["b.wav"]
        assert "is not text in UTF-8" in reason_of(found, "a.wav")
