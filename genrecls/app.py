"""A page to drop a track on: player, taggram, prediction, and the maps that it rests on.

Made with Gradio (extra ``app``). Sound, figures and answers stay on the machine: an upload is
deleted when its page is closed, after ten minutes at the latest, and all of them when the command
ends.
"""

# No annotations from the future here: Gradio looks for its Request among them.
import base64
import html
import io
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

from genrecls import plots
from genrecls._utils.paths import project_root
from genrecls.classifier import GenreClassifier, Prediction
from genrecls.config import MIN_CONFIDENCE
from genrecls.errors import AudioError, AudioWarning
from genrecls.features.image import to_image
from genrecls.features.segments import non_overlapping
from genrecls.inspection import saliency

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f'{error}; the page is an extra of genrecls: pip install ".[app]"') from error

_STEP_S = 3.0
_LOOKED_FOR_EVERY_S, _DELETED_AFTER_S = 60, 540  # ten minutes at the latest
_WAITING = 50  # tracks, at most
_N_EXAMPLES = 4
_DPI = 120


def serve(
    classifier: GenreClassifier, *, host: str, port: int, max_mb: int, max_minutes: float
) -> None:
    """Show the page of a classifier until it is interrupted.

    Parameters
    ----------
    classifier : GenreClassifier
    host : str
        Address to listen on; ``'127.0.0.1'`` is this machine alone.
    port : int in [1, 65535]
    max_mb : int > 0
        Largest upload.
    max_minutes : float > 0
        Longest track.

    Raises
    ------
    OSError
        If the port is taken.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # on the way out, uploads are deleted
    with tempfile.TemporaryDirectory(prefix="genrecls-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        page = make_page(classifier, max_mb=max_mb, max_minutes=max_minutes)
        page.queue(max_size=_WAITING)
        page.launch(server_name=host, server_port=port, max_file_size=f"{max_mb}mb", share=False,
                    ssr_mode=False, footer_links=[], run_history=False, theme=_theme(),
                    quiet=True, prevent_thread_lock=True)  # fmt: skip
        print(f"http://{host}:{port} (Ctrl-C ends it)", flush=True)
        page.block_thread()


def make_page(classifier: GenreClassifier, *, max_mb: int, max_minutes: float):
    """The page as ``gradio.Blocks``. See :func:`serve`."""
    _ = classifier.model  # loaded before the first visitor comes
    open_pages: dict[str, set[str]] = defaultdict(set)
    changing = threading.Lock()
    plots.style()

    def came(path: str | None, request: gr.Request) -> None:
        if path:
            with changing:
                open_pages[request.session_hash].add(path)

    def left(request: gr.Request) -> None:
        with changing:
            for path in open_pages.pop(request.session_hash, set()) - track.keep_in_cache:
                # Gradio keeps equal files once.
                if not any(path in others for others in open_pages.values()):
                    Path(path).unlink(missing_ok=True)

    def listen(path: str | None):
        nothing = gr.Audio(None, visible=False), "", "", None, gr.Dropdown([], visible=False), ""
        if path is None:
            return nothing
        try:
            prediction, remarks = _predict(classifier, path, max_minutes)
        except AudioError as error:
            said = AudioError(Path(path).name, error.reasons, error.advice)
            return nothing[0], _sentence(str(said)), *nothing[2:]
        segments = [(_times(segment), i) for i, segment in enumerate(_apart(prediction))]
        telling = _most_telling(prediction)
        chosen = gr.Dropdown(choices=segments, value=telling, visible=True)
        taggram = _image(prediction.plot(), "Probability of each genre over time")
        player = gr.Audio(path, visible=True)
        return player, _prediction(prediction, remarks), taggram, prediction, chosen, ""

    def show_maps(prediction: Prediction | None, segment: int | None) -> str:
        if segment is None:
            return ""
        if prediction is None:
            return _sentence("What was heard has been deleted; drop the track again.")
        return _maps(classifier, prediction, segment)

    with gr.Blocks(
        title="genrecls",
        analytics_enabled=False,
        delete_cache=(_LOOKED_FOR_EVERY_S, _DELETED_AFTER_S),
    ) as page:
        gr.Markdown(
            f"# Sound is a picture too\n"
            f"Drop a track, and *{_plain(classifier.name)}* says which of its genres it hears: "
            f"{_plain(', '.join(classifier.genres))}. Below a probability of {MIN_CONFIDENCE:g} it is "
            f"not sure. Up to {max_mb} MB and {max_minutes:g} minutes; nothing is kept."
        )
        track = gr.File(label="SegmentLoader", elem_id="track", height=140)
        if examples := _examples(classifier):
            gr.Examples([[str(file)] for file in examples], track, label="Or one of these",
                        example_labels=[file.stem for file in examples])  # fmt: skip
            # Before the first visitor comes, Gradio's folder holds its copies of them alone.
            kept = Path(track.GRADIO_CACHE).rglob("*")
            track.keep_in_cache |= {str(file) for file in kept if file.is_file()}
        prediction = gr.HTML(elem_id="label")
        # Its button "share" would send the track to another machine.
        player = gr.Audio(label="Player", interactive=False, visible=False, buttons=[],
                          elem_id="player")  # fmt: skip
        taggram = gr.HTML(elem_id="taggram")
        held = gr.State(time_to_live=_DELETED_AFTER_S)
        segment = gr.Dropdown(label="What the answer rests on, in the segment", visible=False)
        maps = gr.HTML(elem_id="maps")

        track.upload(came, track, queue=False, api_visibility="private")
        # One at a time: matplotlib's state is one for all threads.
        track.change(
            listen, track, [player, prediction, taggram, held, segment, maps],
            concurrency_limit=1, concurrency_id="model", api_visibility="private",
        ).then(
            show_maps, [held, segment], maps, concurrency_id="model", api_visibility="private"
        )  # fmt: skip
        segment.input(show_maps, [held, segment], maps, concurrency_id="model",
                    api_visibility="private")  # fmt: skip
        page.unload(left)
    return page


def _theme():
    fonts = ["system-ui", "sans-serif"]  # Gradio's own come from another machine
    return gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])


def _predict(classifier, path: str, max_minutes: float) -> tuple[Prediction, list[str]]:
    """What the classifier says, and what is to be warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        prediction = classifier.predict(path, step_s=_STEP_S, max_duration_s=60 * max_minutes)
    said = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
    return prediction, [text.replace(path, Path(path).name) for text in said]


def _examples(classifier: GenreClassifier) -> list[Path]:
    """A test track of each genre, where the corpus is still in ``data/``."""
    test = classifier.segments.query("split == 'test'").drop_duplicates("genre")
    folder = (project_root() / "data" / classifier.card["corpus"]).resolve()
    files = [(folder / path).resolve() for path in test["path"]]
    # A table may name any file of the machine, and all that is shown here can be fetched.
    return [f for f in files if f.is_relative_to(folder) and f.is_file()][:_N_EXAMPLES]


def _apart(prediction: Prediction) -> list[dict]:
    """The segments that do not overlap, in the order of the log-mels."""
    apart = non_overlapping(prediction.segments, prediction.front_end)
    return prediction.segments[apart].to_dict("records")


def _most_telling(prediction: Prediction) -> int:
    """Number of the segment that speaks most for the genre of the track."""
    return int(np.argmax([p[f"prob_{prediction.genre}"] for p in _apart(prediction)]))


def _times(segment: dict) -> str:
    start, end = (
        f"{int(s) // 60}:{int(s) % 60:02}" for s in (segment["start_s"], segment["end_s"])
    )
    return f"{start} – {end}"


def _maps(classifier: GenreClassifier, prediction: Prediction, segment: int) -> str:
    levels = prediction.log_mels[segment]
    genre = classifier.genres.index(prediction.genre)
    maps = {
        name: f(classifier.model, levels, genre) for name, f in saliency.SALIENCY_METHODS.items()
    }
    image = to_image(levels, classifier.front_end)
    figure = plots.saliency_maps(image, maps, classifier.front_end)
    caption = (
        f"Grad-CAM: the brighter, the more it speaks for {prediction.genre}. Occlusion: without "
        f"what is red {prediction.genre} is less probable, without what is blue more."
    )
    return _image(figure, caption)


def _prediction(prediction: Prediction, remarks: list[str]) -> str:
    shares = plots.format_probabilities(prediction.probabilities)
    notes = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
    return (
        f'<p style="font-size:1.6em"><strong>{html.escape(prediction.label)}</strong></p>'
        f"<p>{html.escape(shares)}</p>{notes}"
    )


def _sentence(text: str) -> str:
    return f'<p role="alert"><strong>{html.escape(text)}</strong></p>'


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    from genrecls.report.markdown import escape

    return escape(text)


def _image(figure, caption: str) -> str:
    """A figure inside the page, so that no file is left of it."""
    from matplotlib import pyplot as plt

    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    plt.close(figure)
    data = base64.b64encode(image.getvalue()).decode()
    text = html.escape(caption, quote=True)
    return (
        f'<figure><img style="width:100%" alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
