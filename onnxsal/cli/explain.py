"""`onnxsal explain`: photos to pictures of why."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsal.cli import options
from onnxsal.errors import ImageError

if TYPE_CHECKING:
    from onnxsal.cli.choice import Choice
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.progress import Progress
    from onnxsal.explanation import Explanation, Model
    from onnxsal.explanation.arrays import ArrayModel


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
    help="Images at a time, by default 8; of methods of many runs, perturbed images in a run, by default what is "
    "fastest and fits into memory.",
)
@options.settings_option()
@options.like_option()
@options.loop_options()
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
    batch_size: int | None,
    settings: dict[str, str],
    like: str | None,
    workers: int | None,
    tolerance: float | None,
    checkpoint: Path | None,
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
    from onnxsal.cli.choice import check_loops, choose
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.progress import Progress
    from onnxsal.explanation import LoopOptions
    from onnxsal.explanation.asked import BATCH_SIZE

    choices = choose(methods, layer, settings, like)
    check_loops(choices, checkpoint)
    progress = Progress(len(images))
    loop = LoopOptions(workers, tolerance, checkpoint, progress=progress.follow)
    loaded = onnxsal.load(model, card=card, providers=providers or None)
    outputs = Outputs(output, tuple(dict.fromkeys(formats)), overwrite)
    if hasattr(loaded, "card"):  # a model of arrays takes .npy files, and has none
        _read_all(images, progress)
    else:
        _check_samples(loaded, images)
    targets = [_targets(loaded, photo, target, choices, inputs) for photo in images]
    jobs = _plan(images, targets, choices, outputs)

    def explain(photos: Sequence[Path]) -> "Iterator[tuple[Explanation, ...]]":
        given: dict[str, Any] = {"target": target, "batch_size": batch_size, "loop": loop, "like": like}
        given |= {"inputs": inputs} if inputs else {}
        # Loops last: what another method refuses is known before they take their time.
        in_order = sorted(choices, key=lambda c: c.asks is not None)
        with _resumable(checkpoint, progress):
            found = {c.name: loaded.explain(list(photos), c.name, **c.options, **given) for c in in_order}
        return zip(*(found[c.name] for c in choices), strict=True)

    # A file of --input may have a sample for each image, so that they all go in one call.
    step = len(images) if inputs else batch_size or BATCH_SIZE
    for start in range(0, len(images), step):
        progress.show("explained", start)
        stop = start + step
        found = explain(images[start:stop])
        for job, explanations in zip((j for photo in jobs[start:stop] for j in photo), found, strict=True):
            _write(job, explanations, outputs)
            progress.clear()
            if job is jobs[0][0] and hasattr(loaded, "card"):
                report.announce_guesses(loaded.card)
            report.print_job(job, explanations, as_json=as_json)


@contextmanager
def _resumable(checkpoint: Path | None, progress: "Progress") -> Iterator[None]:
    """Say how to go on after an interruption (Ctrl-C)."""
    try:
        yield
    except KeyboardInterrupt:
        progress.clear()
        if checkpoint is not None and checkpoint.exists():
            click.echo(f"interrupted: the same command goes on from {checkpoint}", err=True)
        raise


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


def _targets(
    loaded: "Model", photo: Path, target: str | None, choices: "Sequence[Choice]", inputs: dict[str, str]
) -> list[str]:
    """Return what is explained of a photo, each as one would type it: of a detector, one for each detection meant."""
    from onnxsal.explanation.detecting import choose

    aims = loaded.read_target(target)
    finding = next((c for c in choices if c.asks == "detections"), choices[0]).finding
    detecting = any(c.asks == "detections" for c in choices)
    if not detecting and not (hasattr(loaded, "card") and loaded.means_boxes(aims, finding.decoder)):
        return [t.text for t in aims]
    found = loaded.detect(photo, inputs=inputs, **vars(finding))
    side = "" if aims[0].form.part == "score" else f",{aims[0].form.part}"
    return [f"box:{number}{side}" for number in choose(aims, found, finding.threshold)]


def _plan(
    photos: Sequence[Path], targets: Sequence[Sequence[str]], choices: "Sequence[Choice]", outputs: "Outputs"
) -> list[list[Job]]:
    """Return what is to be written, for each photo and its targets, once all of it can be."""
    from onnxsal.cli.outputs import unique_stems

    with_panel = len(choices) > 1 and "png" in outputs.formats
    jobs = []
    for photo, stem, aims in zip(photos, unique_stems(photos), targets, strict=True):
        own = []
        for target in aims:
            files = [outputs.results(stem, choice.name, target) for choice in choices]
            own.append(Job(photo, files, outputs.panel(stem, target) if with_panel else None))
        jobs.append(own)
    every = [job for own in jobs for job in own]
    outputs.check([*(p for job in every for files in job.files for p in files), *(j.panel for j in every if j.panel)])
    return jobs


def _read_all(photos: Sequence[Path], progress: "Progress") -> None:
    """Refuse photos that cannot be read before the first is explained; a single one is read just then."""
    from onnxsal.image import open_image

    if len(photos) > 1:
        for done, photo in enumerate(photos):
            progress.show("read", done)
            open_image(photo)
        progress.clear()


def _check_samples(loaded: "ArrayModel", files: Sequence[Path]) -> None:
    """Refuse files that cannot be read, or hold several samples: results are named after the file."""
    for file in files:
        count = loaded.count(file)
        if count != 1:
            raise ImageError(f"{file} holds {count} samples: write each into a file of its own")


def _write(job: Job, explanations: "Sequence[Explanation]", outputs: "Outputs") -> None:
    outputs.make_folder()
    for explanation, files in zip(explanations, job.files, strict=True):
        for path in files:
            explanation.save(path, overwrite=outputs.overwrite)
    if job.panel:
        from onnxsal.explanation.explanation import save_panel

        save_panel(explanations, job.panel, overwrite=outputs.overwrite)
