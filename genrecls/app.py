"""Show a page that predicts the genre of an uploaded track.

The page needs Gradio (extra ``app``) and sends nothing to other machines. An upload is deleted
after ten minutes at the latest, and all uploads are deleted when the command ends.
"""

import html
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from genrecls import plots
from genrecls._utils.paths import data_dir
from genrecls.audio.decode import load_audio
from genrecls.classifier import GenreClassifier, Prediction
from genrecls.errors import AudioError, AudioWarning
from genrecls.features.image import to_image
from genrecls.features.segments import non_overlapping, step_samples
from genrecls.inspection.collection import nearest_segments
from genrecls.inspection.saliency import grad_cam, occlusion
from genrecls.models.backbone import predict_log_mels

try:
    import gradio as gr
    from gradio.themes import Default
except ImportError as error:
    raise ImportError(
        f'{error}; the page is an extra of genrecls: pip install ".[app]" in its folder'
    ) from error

_CHECK_EVERY_S, _MAX_AGE_S = 60, 540  # together ten minutes
_STEP_S = 3.0
_N_EXAMPLES = 4
_N_SIMILAR = 3
_SLOW_MS = 30  # per segment
_CAPTION = (
    "Grad-CAM: bright regions make the predicted genre more probable. Occlusion: the genre is less "
    "probable without a red region, and more probable without a blue one."
)


def serve(
    classifier: GenreClassifier, *, host: str, port: int, max_mb: int, max_minutes: float
) -> None:
    """Serve the page of a classifier until the process is interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the uploads are deleted
    with tempfile.TemporaryDirectory(prefix="genrecls-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        page = make_page(classifier, max_mb=max_mb, max_minutes=max_minutes)
        page.queue(max_size=50).launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{max_mb}mb",
            # Gradio's own fonts would be loaded from another machine.
            theme=Default(font="system-ui", font_mono="monospace"),
            share=False,
            ssr_mode=False,
            footer_links=[],
            run_history=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        print(f"http://{host}:{port} (press Ctrl-C to stop)", flush=True)
        page.block_thread()


def make_page(classifier: GenreClassifier, *, max_mb: int, max_minutes: float) -> gr.Blocks:
    """Build the page of a classifier; :func:`serve` enforces the size of uploads."""
    _ = classifier.model  # loads the model before the first visitor arrives
    plots.style()
    # Gradio deletes uploads by this schedule and when the server stops.
    schedule = (_CHECK_EVERY_S, _MAX_AGE_S)
    with gr.Blocks(title="genrecls", analytics_enabled=False, delete_cache=schedule) as page:
        gr.HTML(_describe(classifier, max_mb, max_minutes))
        track = gr.File(label="Track", elem_id="track", height=140)
        if examples := _find_examples(classifier):
            names = [file.stem for file in examples]
            samples = [[str(file)] for file in examples]
            gr.Examples(samples, track, label="Examples", example_labels=names)
            # Examples are not uploads; at this time the folder contains nothing else.
            files = Path(track.GRADIO_CACHE).rglob("*")
            track.keep_in_cache |= {str(file) for file in files if file.is_file()}
        label = gr.HTML(elem_id="prediction")
        # Without buttons, because "share" would send the track to another machine.
        player = gr.Audio(label="Player", elem_id="player", visible=False, buttons=[])
        taggram = gr.Plot(show_label=False, elem_id="taggram", visible=False)
        state = gr.State(time_to_live=_MAX_AGE_S)
        segment = gr.Dropdown(label="Explain the segment", info=_CAPTION, visible=False)
        maps = gr.Plot(show_label=False, elem_id="maps", visible=False)
        similar = gr.HTML(elem_id="similar")
        neighbor = gr.Audio(label="Most similar", elem_id="neighbor", visible=False, buttons=[])
        explanation = [maps, similar, neighbor]
        outputs = [label, player, taggram, state, segment, *explanation]

        def predict(path: str | None) -> dict[Any, Any]:
            plt.close("all")  # the figures of earlier events have been sent
            parts = (player, taggram, segment, maps, neighbor)
            values = {part: gr.update(value=None, visible=False) for part in parts}
            values |= {label: "", similar: "", state: None}
            if path is None:
                return values
            try:
                prediction, notes = _predict(classifier, path, max_minutes)
            except AudioError as error:
                message = str(AudioError(Path(path).name, error.reasons, error.advice))
                alert = f'<p role="alert"><strong>{html.escape(message)}</strong></p>'
                return values | {label: alert}
            segments, best = _list_segments(prediction)
            return values | {
                label: f"<h2>{html.escape(prediction.label)}</h2>" + _format_paragraphs(notes),
                player: gr.Audio(path, visible=True),
                taggram: gr.Plot(prediction.plot(), visible=True),
                state: prediction,
                segment: gr.Dropdown(segments, value=best, visible=True),
            }

        def explain(prediction: Prediction | None, i: int | None) -> dict[Any, Any]:
            if i is None:
                return {maps: gr.Plot(visible=False)}
            if prediction is None:
                raise gr.Error("The prediction has been deleted. Upload the track again.")
            plt.close("all")
            text, sound = _compare(classifier, np.asarray(prediction.log_mels)[i])
            return {
                maps: gr.Plot(_explain(classifier, prediction, i), visible=True),
                similar: text,
                neighbor: gr.Audio(sound, visible=sound is not None),
            }

        # One at a time, because neither matplotlib nor catching warnings is thread-safe.
        options = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        changed = track.change(predict, track, outputs, **options)
        changed.then(explain, [state, segment], explanation, **options)
        segment.input(explain, [state, segment], explanation, **options)
    return page


def _describe(classifier: GenreClassifier, max_mb: int, max_minutes: float) -> str:
    texts = [
        f"Upload a track, and the model {classifier.name} predicts its genre: "
        f"{', '.join(classifier.genres)}. If the probability is below "
        f"{classifier.card['min_confidence']:.2g}, the result is “not sure”.",
        f"A track may have up to {max_mb} MB and {max_minutes:g} min. It is not sent to any "
        f"other machine, and it is deleted after ten minutes at the latest.",
    ]
    if classifier.novelty:
        texts.append("If the track is unlike all that it was trained on: “none of these”.")
    if getattr(classifier, "synthetic", False):
        texts.append("The model was trained on synthetic music only: do not rely on its results.")
    return "<h1>Sound is a picture too</h1>" + _format_paragraphs(texts)


def _format_paragraphs(texts: list[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _find_examples(classifier: GenreClassifier) -> list[Path]:
    """Find a test track in each genre, if the corpus is in the data folder."""
    test = classifier.segments.query("split == 'test'").drop_duplicates("genre")
    files = filter(None, (_find_file(classifier, path) for path in test["path"]))
    return list(files)[:_N_EXAMPLES]


def _find_file(classifier: GenreClassifier, path: str) -> Path | None:
    """Find the file of a track, if it is in the data folder."""
    # Tracks can be downloaded, and a table may name any file on this machine.
    folder = (data_dir() / classifier.card["corpus"]).resolve()
    file = (folder / path).resolve()
    return file if file.is_relative_to(folder) and file.is_file() else None


def _predict(
    classifier: GenreClassifier, path: str, max_minutes: float
) -> tuple[Prediction, list[str]]:
    """Return the prediction and the texts to show below the label."""
    step_s: float | None = _STEP_S
    try:
        step_samples(classifier.front_end, step_s)
    except ValueError:  # it does not divide the segments of this model
        step_s = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        prediction = classifier.predict(path, step_s=step_s, max_duration_s=60 * max_minutes)
    texts = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
    notes = [text.replace(repr(path), repr(Path(path).name)) for text in texts]
    shares = plots.format_probabilities(prediction.probabilities)
    if prediction.novelty is not None:
        notes.insert(0, f"Novelty: {prediction.novelty:.2f} (above 1, it is none of these genres)")
    return prediction, [shares, *notes]


def _list_segments(prediction: Prediction) -> tuple[list[tuple[str, int]], int]:
    """Return the times of the segments with log-mels, and the number of the most typical one."""
    segments = prediction.segments[non_overlapping(prediction.segments, prediction.front_end)]
    bounds = zip(segments["start_s"], segments["end_s"], strict=True)
    times = [(f"{start:.0f} to {end:.0f} s", i) for i, (start, end) in enumerate(bounds)]
    best = int(np.argmax(segments[f"prob_{prediction.genre}"] * segments["sounding"]))
    return times, best


def _explain(classifier: GenreClassifier, prediction: Prediction, i: int) -> Figure:
    log_mel, genre = np.asarray(prediction.log_mels)[i], classifier.genres.index(prediction.genre)
    # A model that needs long for a segment gets 24 versions of it instead of 128.
    slow = classifier.card["inference_ms_per_segment"] > _SLOW_MS
    patches = (4, 5) if slow else (8, 15)
    maps = {
        "Grad-CAM": grad_cam(classifier.model, log_mel, genre),
        "occlusion": occlusion(classifier.model, log_mel, genre, patches=patches),
    }
    image = to_image(log_mel, classifier.front_end)
    return plots.saliency_maps(image, maps, classifier.front_end)


def _compare(
    classifier: GenreClassifier, log_mel: np.ndarray
) -> tuple[str, tuple[int, np.ndarray] | None]:
    """Name the training segments that are most similar to a segment, and load the first."""
    if classifier.embeddings is None:
        return "", None
    embedding = predict_log_mels(classifier.halves[0], log_mel[None])
    nearest = nearest_segments(classifier, embedding, _N_SIMILAR).to_dict("records")
    names = [f"{x['genre']}: {Path(x['path']).stem}, from {x['start_s']:.0f} s" for x in nearest]
    file, start_s = _find_file(classifier, nearest[0]["path"]), nearest[0]["start_s"]
    text = _format_paragraphs(["Most similar training segments: " + "; ".join(names)])
    if file is None:
        return text, None
    y, sr = load_audio(file, start_s=start_s, duration_s=classifier.front_end.segment_s)
    return text, (sr, y)
