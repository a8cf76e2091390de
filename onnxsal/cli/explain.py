"""`onnxsal explain`: photos to pictures of why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    from onnxsal.cli.choice import Choice
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.progress import Progress
    from onnxsal.explanation import Explanation


@click.command("explain")
@options.model_argument()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    default=["grad-cam"],
    show_default=True,
    help="See `onnxsal methods`. Repeatable; several also give a panel, side by side.",
)
@options.target_option()
@options.layer_option()
@options.folder_option(Path())
@click.option(
    "--format",
    "formats",
    type=click.Choice(["png", "npz", "json"]),
    multiple=True,
    default=["png"],
    show_default=True,
    help="What to write. Repeatable.",
)
@click.option("--provider", "providers", multiple=True, help="ONNX Runtime's: cpu (default), cuda, ... Repeatable.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Images at a time; fewer need less memory.",
)
@options.settings_option()
@options.card_option()
@options.inputs_option()
@options.overwrite_option()
@options.json_option("Print a JSON object per explanation in place of a line.")
def command(
    model: Path,
    images: tuple[Path, ...],
    methods: tuple[str, ...],
    target: str | None,
    layer: str | None,
    output: Path,
    formats: tuple[str, ...],
    providers: tuple[str, ...],
    batch_size: int,
    settings: dict[str, str],
    card: Path | None,
    inputs: dict[str, str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Explain photos: why MODEL gives the target its score on each IMAGE.

    Writes IMAGE_METHOD.png, or IMAGE_METHOD_TARGET.png where a target is given, and prints a line for
    each: prediction, target, score, file. Nothing is written unless every photo can be read.
    """
    import onnxsal
    from onnxsal.cli import report
    from onnxsal.cli.choice import choose
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.progress import Progress

    choices = choose(methods, layer, settings)
    loaded = onnxsal.load(model, card=card, providers=providers or None)
    targets = [t.text for t in loaded.read_target(target)]
    outputs = Outputs(output, tuple(dict.fromkeys(formats)), overwrite)
    jobs = _plan(images, targets, choices, outputs)
    progress = Progress(len(images))
    _read_all(images, progress)

    def explain(photos: Sequence[Path]) -> "Iterator[tuple[Explanation, ...]]":
        given: dict[str, Any] = {"target": target, "inputs": inputs, "batch_size": batch_size}
        return zip(*(loaded.explain(list(photos), c.name, **c.options, **given) for c in choices), strict=True)

    # A file of --input may have a sample for each image, so that they all go in one call.
    step = len(images) if inputs else batch_size
    for start in range(0, len(images), step):
        progress.show("explained", start)
        stop = start + step
        found = explain(images[start:stop])
        for job, explanations in zip(jobs[start * len(targets) : stop * len(targets)], found, strict=True):
            _write(job, explanations, outputs)
            progress.clear()
            if job is jobs[0]:
                report.announce_guesses(loaded.card)
            report.print_job(job, explanations, as_json=as_json)


@dataclass(frozen=True)
class Job:
    """One photo and one target.

    Attributes:
        photo: The photo.
        files: For each method, the files that its explanation is written to.
        panel: The picture with all methods side by side, if there is one.
    """

    photo: Path
    files: list[list[Path]]
    panel: Path | None


def _plan(photos: Sequence[Path], targets: Sequence[str], choices: "Sequence[Choice]", outputs: "Outputs") -> list[Job]:
    """Return what is to be written, photos first and targets second, once all of it can be."""
    from onnxsal.cli.outputs import unique_stems

    with_panel = len(choices) > 1 and "png" in outputs.formats
    jobs = []
    for photo, stem in zip(photos, unique_stems(photos), strict=True):
        for target in targets:
            files = [outputs.results(stem, choice.name, target) for choice in choices]
            jobs.append(Job(photo, files, outputs.panel(stem, target) if with_panel else None))
    outputs.check([*(p for job in jobs for files in job.files for p in files), *(j.panel for j in jobs if j.panel)])
    return jobs


def _read_all(photos: Sequence[Path], progress: "Progress") -> None:
    """Refuse photos that cannot be read before the first is explained; a single one is read just then."""
    from onnxsal.image import open_image

    if len(photos) > 1:
        for done, photo in enumerate(photos):
            progress.show("read", done)
            open_image(photo)
        progress.clear()


def _write(job: Job, explanations: "Sequence[Explanation]", outputs: "Outputs") -> None:
    outputs.make_folder()
    for explanation, files in zip(explanations, job.files, strict=True):
        for path in files:
            explanation.save(path, overwrite=outputs.overwrite)
    if job.panel:
        from onnxsal.explanation.explanation import save_panel

        save_panel(explanations, job.panel, overwrite=outputs.overwrite)
