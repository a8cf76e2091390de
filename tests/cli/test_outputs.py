"""Names of files, and tables of cells, that come from strangers."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsal.cli.outputs import Outputs, unique_stems
from onnxsal.cli.tables import Table, aligned, show_on_terminal
from onnxsal.errors import OutputError

HOSTILE = "[red]x[/red] :boom: \x1b[31my\x1b[0m\nz"


@given(st.text(), st.text(min_size=1))
def test_no_target_leads_out_of_the_folder(method: str, target: str) -> None:
    for path in (*Outputs(Path("out")).results("photo", method, target), Outputs(Path("out")).panel("photo", target)):
        assert path.parent == Path("out")
        assert path.name.isprintable()
        assert path.name.startswith("photo_")
        assert len(path.name) < 200


@given(st.lists(st.sampled_from(["cat", "Cat", "cat-2", "dog", "a\nb"]), max_size=8))
def test_photos_of_one_name_get_files_of_their_own(names: list[str]) -> None:
    stems = unique_stems([Path(str(i)) / f"{name}.jpg" for i, name in enumerate(names)])
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(stem.isprintable() for stem in stems)


def test_a_photo_keeps_its_name() -> None:
    photos = [Path("a/Été 1.jpg"), Path("b/Été 1.png"), Path("c/archive.tar.gz")]
    assert unique_stems(photos) == ["Été 1", "Été 1-2", "archive.tar"]


def test_the_target_is_in_the_name_only_where_it_was_given() -> None:
    outputs = Outputs(Path("out"), ("png", "npz"))
    assert [p.name for p in outputs.results("dog", "grad-cam", "top")] == ["dog_grad-cam.png", "dog_grad-cam.npz"]
    assert outputs.results("dog", "grad-cam", "prob:281")[0].name == "dog_grad-cam_prob-281.png"


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="two results"):
        Outputs(tmp_path).check([tmp_path / "a.png", tmp_path / "A.png"])


def test_a_dangling_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="no folder"):
        Outputs(tmp_path / "link" / "deeper").check([])


def test_columns_are_aligned_and_cells_harmless() -> None:
    text = aligned(Table(f"title {HOSTILE}", [("a", HOSTILE), ("long", "b", "c")], ("one", "two")))
    assert text.splitlines() == [
        "title [red]x[/red] :boom: [31my [0m z",
        "  one   two",
        "  a     [red]x[/red] :boom: [31my [0m z",
        "  long  b                                c",
    ]


def test_a_terminal_shows_markup_as_it_is_written() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    show_on_terminal([Table(HOSTILE, [(HOSTILE, "b"), ("a",)], ("one", HOSTILE)), Table("empty", [])], console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("[red]x[/red] :boom: ") == 3
    assert "\x1b[31m" not in shown


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="no permission to write to .*; choose another"):
        Outputs(tmp_path / "a" / "b").check([])
