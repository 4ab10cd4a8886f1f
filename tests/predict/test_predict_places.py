"""Nothing of a user's is written over, removed, or taken for a map: what stands in OUT is ours only
if we listed it."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from helpers.networks import Brightness
from helpers.pictures import clip, picture

from dalib import models
from dalib.__main__ import main
from dalib.errors import ConfigError, DataError
from dalib.predict import Predictor, read_png16, write_folder, write_video
from dalib.predict.folder import distinct
from dalib.predict.ledger import JOURNAL
from dalib.predict.lock import LOCK, only_writer
from dalib.predict.outputs import targets
from dalib.writing import partial_of

SILENT = {"report": lambda line: None}
ALL = ("png16", "npy", "colour")


@pytest.fixture
def run():
    return Predictor(model=Brightness(pair=True), short_side=16, device="cpu")


@pytest.fixture
def photos(tmp_path):
    """Two photographs, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    picture(10).save(folder / "a.png")
    picture(200).save(folder / "sub" / "b.png")
    return folder


@pytest.fixture
def weights(tmp_path):
    models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
    return ["--weights", str(tmp_path / "net.safetensors"), "--device", "cpu"]


def contents(folder) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


class TestForeignFiles:
    @pytest.mark.parametrize("older", [True, False], ids=["older than the photograph", "newer"])
    @pytest.mark.parametrize(
        ("name", "formats"),
        [
            ("a.png", ("png16",)),
            ("sub/b.npy", ("png16", "npy")),
            ("a.colour.png", ("colour",)),
            ("sub", ("png16",)),
        ],
    )
    def test_in_the_way_ends_before_the_first_image(
        self, photos, tmp_path, run, name, formats, older
    ):
        out = tmp_path / "out"
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        os.utime(out / name, (0, 0) if older else (2e9, 2e9))
        with pytest.raises(ConfigError, match=rf"{name}: is (there already|a file where a folder)"):
            write_folder(photos, out, run=run, formats=formats, **SILENT)
        assert contents(out) == {name: b"mine"}
        assert not run.model.seen

    @pytest.mark.parametrize("kind", ["folder", "link", "link to nothing"])
    def test_folders_and_links_in_the_way(self, photos, tmp_path, run, kind):
        out, mine = tmp_path / "out", tmp_path / "mine.png"
        out.mkdir()
        mine.write_text("mine")
        if kind == "folder":
            (out / "a.png").mkdir()
        else:
            (out / "a.png").symlink_to(mine if kind == "link" else tmp_path / "nothing")
        with pytest.raises(ConfigError, match=r"a\.png: is there already"):
            write_folder(photos, out, run=run, **SILENT)
        assert mine.read_text() == "mine"
        assert not (tmp_path / "nothing").exists()

    def test_a_link_leads_nowhere_else(self, photos, tmp_path, run):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "sub").symlink_to(photos / "sub")
        with pytest.raises(ConfigError, match="sub: is a link to"):
            write_folder(photos, tmp_path / "out", run=run, **SILENT)
        assert set(contents(photos)) == {"a.png", "sub/b.png"}

    def test_a_map_that_somebody_changed_is_theirs(self, photos, tmp_path, run):
        out = tmp_path / "out"
        write_folder(photos, out, run=run, **SILENT)
        picture(1).save(out / "a.png")
        mine = (out / "a.png").read_bytes()
        with pytest.raises(ConfigError, match=r"a\.png: was changed since it was predicted"):
            write_folder(photos, out, run=run, **SILENT)
        assert (out / "a.png").read_bytes() == mine

    @pytest.mark.parametrize(
        "text",
        [
            "[1, 2]",
            "null",
            '{"scores": 1}',
            "\x00",
            '"text"',
            '{"network": 1, "files": [3]}',
            "[" * 100_000,
        ],
    )
    def test_a_json_of_others(self, photos, tmp_path, run, text):
        out = tmp_path / "out"
        out.mkdir()
        (out / "predictions.json").write_text(text)
        with pytest.raises((ConfigError, DataError), match=r"choose another folder"):
            write_folder(photos, out, run=run, **SILENT)
        assert contents(out) == {"predictions.json": text.encode()}

    @pytest.mark.parametrize("name", [LOCK, JOURNAL])
    @pytest.mark.parametrize("text", ["my notes", "[1]", "7\n8", '{"file": 3}', '{"mine": 1}'])
    def test_files_of_others_under_names_of_ours(self, photos, tmp_path, run, name, text):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text(text)
        with pytest.raises(
            (ConfigError, DataError), match=rf"{name}: was not written by dalib\.predict"
        ):
            write_folder(photos, tmp_path / "out", run=run, **SILENT)
        assert contents(tmp_path / "out") == {name: text.encode()}

    def test_nothing_outside_is_touched_whatever_a_list_says(self, tmp_path, run):
        """A file that lists what lies elsewhere as a clip's frame does not get that removed."""
        pytest.importorskip("av")
        film = clip(tmp_path / "film.mp4", [(32, 48)] * 2)
        write_video(film, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        note = tmp_path / "out" / "predictions.json"
        about = json.loads(note.read_text())
        mine = (tmp_path / "out" / "film" / "000000.npy").read_bytes()
        (tmp_path / "mine.npy").write_bytes(mine)
        about["files"]["film/../../mine.npy"] = about["files"]["film/000000.npy"]
        note.write_text(json.dumps(about))
        write_video(film, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        assert (tmp_path / "mine.npy").read_bytes() == mine

    def test_refused_before_the_weights_are_read(self, photos, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.png").write_text("mine")
        assert (
            main(
                [
                    "predict",
                    str(photos),
                    str(tmp_path / "out"),
                    "--weights",
                    "nowhere.pth",
                    "--device",
                    "cpu",
                ]
            )
            == 1
        )
        assert "a.png: is there already" in capsys.readouterr().err


class TestOwnFolder:
    @pytest.mark.parametrize("formats", [["png16"], ["npy"], ["png16", "npy", "colour"]])
    @pytest.mark.parametrize("out", ["photos", "photos/.", "link", "photos/sub/.."])
    @pytest.mark.parametrize("images", ["photos", "photos/a.png"])
    def test_of_the_photographs_is_refused(self, photos, tmp_path, capsys, images, out, formats):
        (tmp_path / "link").symlink_to(photos)
        before = contents(photos)
        words = ["--weights", "never_read.pth", "--device", "cpu", "--format", *formats]
        assert main(["predict", str(tmp_path / images), f"{tmp_path}/{out}", *words]) == 1
        assert "is the folder of the photographs itself" in capsys.readouterr().err
        assert contents(photos) == before

    def test_inside_and_around(self, photos, tmp_path, run):
        """Maps among the photographs are no photographs, and the photographs may lie in the folder
        of the maps."""
        for out in (photos / "maps", tmp_path):
            once = write_folder(photos, out, run=run, **SILENT)
            again = write_folder(photos, out, run=run, **SILENT)
            assert once.written == again.kept == ["a", "sub/b"]
        other = write_folder(photos, tmp_path / "other", run=run, **SILENT)
        assert other.written == ["a", "sub/b"]
        assert "maps of an earlier run" in other.passed_over.lines()[0]

    def test_pictures_in_out_are_named(self, photos, run):
        write_folder(photos, photos / "maps", run=run, **SILENT)
        picture().save(photos / "maps" / "figure.png")
        again = write_folder(photos, photos / "maps", run=run, **SILENT)
        assert any("maps/figure.png" in line for line in again.passed_over.lines())


class TestWhoseMap:
    def test_kept_means_made_of_this_very_photograph(self, photos, tmp_path, run):
        """The map of a photograph that another replaced, with an old time of its own, is made
        again."""
        out = tmp_path / "out"
        write_folder(photos, out, run=run, **SILENT)
        before = read_png16(out / "a.png")[0].max()
        picture(250, size=(32, 16)).save(photos / "a.png")
        os.utime(photos / "a.png", (1e9, 1e9))
        again = write_folder(photos, out, run=run, **SILENT)
        assert (again.written, again.kept) == (["a"], ["sub/b"])
        assert read_png16(out / "a.png")[0].max() > before

    def test_another_folders_photograph_of_the_same_name(self, photos, tmp_path, run):
        out, other = tmp_path / "out", tmp_path / "other"
        shutil.copytree(photos, other)
        write_folder(photos, out, run=run, **SILENT)
        before = contents(out)
        with pytest.raises(
            ConfigError, match=r"a\.png: is the map of .*photos/a\.png, not of .*other/a\.png"
        ):
            write_folder(other, out, run=run, **SILENT)
        assert contents(out) == before
        shutil.rmtree(photos)
        assert write_folder(other, out, run=run, **SILENT).written == ["a", "sub/b"], (
            "nobody else needs them now"
        )

    def test_a_copy_of_the_maps_is_still_known(self, photos, tmp_path, run):
        write_folder(photos, tmp_path / "out", run=run, **SILENT)
        shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
        for path in (tmp_path / "copy").rglob("*.png"):
            os.utime(path, (1e9, 1e9))
        assert write_folder(photos, tmp_path / "copy", run=run, **SILENT).kept == ["a", "sub/b"]

    @pytest.mark.parametrize(
        "names",
        [
            ["a.png", "a.jpg"],
            ["A.jpg", "a.jpg", "a.JPG"],
            ["Ä.png", "ä.png", "A\u0308.png"],
            ["a.jpg", "a.png", "a.jpg.tif"],
            ["a.jpg", "a.colour.png"],
            ["a.jpg", "a.png/b.jpg"],
            ["Sub/a.jpg", "sub/a.jpg", "sub/a.png"],
            ["a.jpg", "a.jpg~2.png", "A.jpg", "A.png"],
            ["predictions.json.png", "predictions.jpg"],
        ],
    )
    def test_no_two_photographs_share_a_file(self, names):
        found = distinct(names)
        assert sorted(found) == sorted(names)
        files = [
            path for name in found.values() for path in map(str, targets(Path(name), ALL).values())
        ]
        folded = [unicodedata.normalize("NFC", f).casefold() for f in files]
        assert len(set(folded)) == 3 * len(names)
        assert not {parent for f in folded for parent in _parents(f)} & set(folded)

    def test_names_stay_as_they_were_where_nothing_meets(self):
        assert distinct(["a.jpg", "b/c.d.png"]) == {"a.jpg": "a", "b/c.d.png": "b/c.d"}
        assert distinct(["a.jpg", "a.png"]) == {"a.jpg": "a.jpg", "a.png": "a.png"}

    def test_our_own_maps_are_no_photographs_wherever_they_lie(
        self, photos, tmp_path, run, weights, capsys
    ):
        """Moved away from the file that lists them, they are known by their text chunks."""
        write_folder(photos, tmp_path / "out", run=run, formats=("png16", "colour"), **SILENT)
        for name in ("a.png", "a.colour.png"):
            shutil.copy(tmp_path / "out" / name, photos / f"old_{name}")
        result = write_folder(photos, tmp_path / "more", run=run, **SILENT)
        assert result.written == ["a", "sub/b"]
        assert any(
            "old_a.png" in line and "old_a.colour.png" in line
            for line in result.passed_over.lines()
        )
        assert main(["predict", str(photos / "old_a.png"), str(tmp_path / "alone"), *weights]) == 1
        assert "old_a.png: is a map that dalib.predict wrote" in capsys.readouterr().err


class TestClips:
    @pytest.fixture
    def film(self, tmp_path):
        pytest.importorskip("av")
        return clip(tmp_path / "film.mp4", [(32, 48)] * 3)

    def test_a_folder_with_notes_is_left_alone(self, film, tmp_path, run):
        notes = tmp_path / "out" / "film" / "notes.txt"
        notes.parent.mkdir(parents=True)
        notes.write_text("mine")
        with pytest.raises(ConfigError, match=r"notes\.txt: is there already"):
            write_video(film, tmp_path / "out", run=run, formats=("png16",), **SILENT)
        assert contents(tmp_path / "out") == {"film/notes.txt": b"mine"}

    @pytest.mark.parametrize("name", ["film", "film.colour.mp4"])
    def test_files_in_the_way(self, film, tmp_path, run, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(ConfigError, match="is there already"):
            write_video(film, tmp_path / "out", run=run, formats=("png16", "colour"), **SILENT)
        assert contents(tmp_path / "out") == {name: b"mine"}

    def test_the_clip_itself_and_its_folder(self, film, run):
        before = film.read_bytes()
        with pytest.raises(ConfigError, match=r"film\.mp4: cannot be used as a folder"):
            write_video(film, film, run=run, **SILENT)
        with pytest.raises(ConfigError, match="is the folder of the clip itself"):
            write_video(film, film.parent, run=run, **SILENT)
        assert film.read_bytes() == before

    def test_a_shorter_clip_leaves_no_frames_of_the_longer_one(self, film, tmp_path, run):
        write_video(film, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        clip(film, [(32, 48)] * 2)
        write_video(film, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        assert set(contents(tmp_path / "out")) == {
            "film/000000.npy",
            "film/000001.npy",
            "predictions.json",
        }

    def test_two_clips_of_one_name(self, film, tmp_path, run):
        write_video(film, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        other = clip(tmp_path / "film.avi", [(32, 48)] * 2)
        with pytest.raises(ConfigError, match=r"is the map of .*film\.mp4, not of .*film\.avi"):
            write_video(other, tmp_path / "out", run=run, formats=("npy",), **SILENT)


class TestTwoRuns:
    def test_the_second_one_in_a_folder_is_refused(self, photos, tmp_path, run):
        (tmp_path / "out").mkdir()
        with (
            only_writer(tmp_path / "out"),
            pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* started 2"),
        ):
            write_folder(photos, tmp_path / "out", run=run, **SILENT)
        assert len(write_folder(photos, tmp_path / "out", run=run, **SILENT).written) == 2
        assert not (tmp_path / "out" / LOCK).exists()

    def test_the_lock_of_a_process_that_died_blocks_nobody(self, photos, tmp_path, run):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / LOCK).write_text(
            '{"pid": 1, "host": "here", "started": "2020-01-01 00:00:00"}'
        )
        assert len(write_folder(photos, tmp_path / "out", run=run, **SILENT).written) == 2

    def test_killed_between_any_two_steps_nothing_becomes_foreign(
        self, photos, tmp_path, run, monkeypatch
    ):
        """A kill leaves the journal as it is; the next run knows what was done, begun and only
        announced."""
        out = tmp_path / "out"
        write_folder(photos, out, run=run, **SILENT)
        picture(99).save(photos / "a.png")
        monkeypatch.setattr(
            "dalib.predict.ledger.Ledger._close_journal", lambda self: self._journal.close()
        )
        monkeypatch.setattr(
            "dalib.predict.ledger.Ledger.written", lambda self, files, made_of: None
        )
        write_folder(photos, out, run=run, **SILENT)  # a.png is new, and nothing says so
        monkeypatch.undo()
        with (out / JOURNAL).open("a") as file:
            file.write('{"file": "sub/b.p')
        partial_of(out / "a.png").write_text("half")
        result = write_folder(photos, out, run=run, **SILENT)
        assert (result.written, result.kept) == (["a"], ["sub/b"])
        assert set(contents(out)) == {"a.png", "sub/b.png", "predictions.json"}

    def test_a_failed_run_leaves_no_empty_folder(self, photos, tmp_path):
        (tmp_path / "none.pth").write_bytes(b"no weights")
        words = ["--weights", str(tmp_path / "none.pth"), "--device", "cpu"]
        assert main(["predict", str(photos), str(tmp_path / "out"), *words]) == 1
        assert not (tmp_path / "out").exists()


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
