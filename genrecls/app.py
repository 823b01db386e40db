"""Show a page that predicts the genre of an uploaded track.

The page needs Gradio (extra ``app``) and sends nothing to other machines. An upload is deleted
after ten minutes at the latest, and all uploads are deleted when the command ends.
"""

from __future__ import annotations

import base64
import html
import io
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from genrecls import plots
from genrecls._utils.paths import data_dir
from genrecls.classifier import GenreClassifier, Prediction
from genrecls.config import MIN_CONFIDENCE
from genrecls.errors import AudioError, AudioWarning
from genrecls.features.image import to_image
from genrecls.features.segments import non_overlapping
from genrecls.inspection.saliency import SALIENCY_METHODS

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f'{error}; the page is an extra of genrecls: pip install ".[app]"') from error

_STEP_S = 3.0
_CHECK_EVERY_S, _MAX_AGE_S = 60, 540  # together ten minutes
_MAX_WAITING = 50  # tracks
_N_EXAMPLES = 4


def serve(
    classifier: GenreClassifier, *, host: str, port: int, max_mb: int, max_minutes: float
) -> None:
    """Serve the page of a classifier until the process is interrupted.

    Parameters
    ----------
    classifier : GenreClassifier
        The classifier to use.
    host : str
        Address to listen on; ``'127.0.0.1'`` accepts only requests from this machine.
    port : int in [1, 65535]
        Port to listen on.
    max_mb : int > 0 (in MB)
        Largest upload.
    max_minutes : float > 0 (in minutes)
        Longest track.

    Raises
    ------
    OSError
        If the port is taken.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the uploads are deleted
    with tempfile.TemporaryDirectory(prefix="genrecls-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        page = make_page(classifier, max_mb=max_mb, max_minutes=max_minutes)
        # Gradio's own fonts would be loaded from another machine.
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        page.queue(max_size=_MAX_WAITING).launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{max_mb}mb",
            theme=gr.themes.Default(**fonts),
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
    """Build the page of a classifier.

    Parameters
    ----------
    classifier : GenreClassifier
        The classifier to use.
    max_mb : int > 0 (in MB)
        Largest upload, as shown on the page; :func:`serve` enforces it.
    max_minutes : float > 0 (in minutes)
        Longest track.

    Returns
    -------
    gradio.Blocks
        The page, not served yet.
    """
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
        hidden = {"visible": False, "interactive": False, "buttons": []}
        player = gr.Audio(label="Player", elem_id="player", **hidden)
        taggram = gr.HTML(elem_id="taggram")
        state = gr.State(time_to_live=_MAX_AGE_S)
        segment = gr.Dropdown(label="Explain the segment", visible=False)
        maps = gr.HTML(elem_id="maps")
        empty = {
            player: gr.Audio(None, visible=False),
            label: "",
            taggram: "",
            state: None,
            segment: gr.Dropdown([], visible=False),
            maps: "",
        }

        def predict(path: str | None) -> dict[Any, Any]:
            if path is None:
                return empty
            try:
                prediction, notes = _predict(classifier, path, max_minutes)
            except AudioError as error:
                renamed = AudioError(Path(path).name, error.reasons, error.advice)
                return empty | {label: _format_alert(str(renamed))}
            times, best = _list_segments(prediction)
            return {
                player: gr.Audio(path, visible=True),
                label: _format_prediction(prediction, notes),
                taggram: _embed(prediction.plot(), "Probability of each genre over time"),
                state: prediction,
                segment: gr.Dropdown(times, value=best, visible=True),
                maps: "",
            }

        def explain(prediction: Prediction | None, i: int | None) -> str:
            if i is None:
                return ""
            if prediction is None:
                return _format_alert("The prediction has been deleted. Upload the track again.")
            return _explain(classifier, prediction, i)

        # One at a time, because neither matplotlib nor catching warnings is thread-safe.
        options = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        changed = track.change(predict, track, list(empty), **options)
        changed.then(explain, [state, segment], maps, **options)
        segment.input(explain, [state, segment], maps, **options)
    return page


def _describe(classifier: GenreClassifier, max_mb: int, max_minutes: float) -> str:
    name, genres = html.escape(classifier.name), html.escape(", ".join(classifier.genres))
    synthetic = (
        "<p><strong>This model was trained on synthetic music only. Do not rely on its predictions "
        "for real music.</strong></p>"
    )
    return (
        f"<h1>Sound is a picture too</h1><p>Upload a track, and the model <em>{name}</em> predicts "
        f"its genre: {genres}. The result is “not sure” if the probability is below "
        f"{MIN_CONFIDENCE:g}. A track may have up to {max_mb} MB and {max_minutes:g} minutes. It is "
        f"not sent to any other machine, and it is deleted after ten minutes at the latest.</p>"
    ) + (synthetic if getattr(classifier, "synthetic", False) else "")


def _find_examples(classifier: GenreClassifier) -> list[Path]:
    """Find a test track in each genre, if the corpus is in the data folder."""
    test = classifier.segments.query("split == 'test'").drop_duplicates("genre")
    folder = (data_dir() / classifier.card["corpus"]).resolve()
    files = [(folder / path).resolve() for path in test["path"]]
    # Examples can be downloaded, and a table may name any file on this machine.
    return [f for f in files if f.is_relative_to(folder) and f.is_file()][:_N_EXAMPLES]


def _predict(
    classifier: GenreClassifier, path: str, max_minutes: float
) -> tuple[Prediction, list[str]]:
    """Return the prediction and the text of all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        prediction = classifier.predict(path, step_s=_STEP_S, max_duration_s=60 * max_minutes)
    texts = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
    return prediction, [text.replace(path, Path(path).name) for text in texts]


def _list_segments(prediction: Prediction) -> tuple[list[tuple[str, int]], int]:
    """Return the times of the segments with log-mels, and the number of the most typical one."""
    segments = prediction.segments[non_overlapping(prediction.segments, prediction.front_end)]
    times = [
        " – ".join(f"{int(s) // 60}:{int(s) % 60:02}" for s in bounds)
        for bounds in zip(segments["start_s"], segments["end_s"], strict=True)
    ]
    best = int(np.argmax(segments[f"prob_{prediction.genre}"]))
    return [(text, i) for i, text in enumerate(times)], best


def _explain(classifier: GenreClassifier, prediction: Prediction, i: int) -> str:
    log_mel, name = np.asarray(prediction.log_mels)[i], prediction.genre
    genre = classifier.genres.index(name)
    maps = {
        key: method(classifier.model, log_mel, genre) for key, method in SALIENCY_METHODS.items()
    }
    image = to_image(log_mel, classifier.front_end)
    caption = (
        f"Grad-CAM: bright regions raise the probability of {name}. Occlusion: without a red region "
        f"{name} is less probable, without a blue region more probable."
    )
    return _embed(plots.saliency_maps(image, maps, classifier.front_end), caption)


def _format_prediction(prediction: Prediction, notes: list[str]) -> str:
    texts = [plots.format_probabilities(prediction.probabilities), *notes]
    return (
        f'<p style="font-size:1.6em"><strong>{html.escape(prediction.label)}</strong></p>'
        + "".join(f"<p>{html.escape(text)}</p>" for text in texts)
    )


def _format_alert(text: str) -> str:
    return f'<p role="alert"><strong>{html.escape(text)}</strong></p>'


def _embed(figure: plt.Figure, caption: str) -> str:
    """Put a figure into the page itself, so that no file remains."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    plt.close(figure)
    data, text = base64.b64encode(image.getvalue()).decode(), html.escape(caption)
    return (
        f'<figure><img style="width:100%" alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
