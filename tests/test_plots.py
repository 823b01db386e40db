"""Figures: their axes, labels and positions."""

import pkgutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from genrecls import FrontEnd, plots, report
from genrecls.features.spectrogram import mel_frequencies
from genrecls.plots import sound

DEFAULT = FrontEnd.preset("default")


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def test_log_mel_is_in_seconds_and_hertz(ax):
    levels = np.zeros(DEFAULT.shape)
    assert plots.log_mel(levels, DEFAULT, ax=ax) is ax
    assert labels(ax) == ("Time (s)", "Frequency (Hz)")
    assert ax.get_xlim()[1] == pytest.approx(15, abs=0.1)


def test_spectrograms_have_low_frequencies_at_the_bottom(ax):
    levels = np.zeros(DEFAULT.shape)
    levels[0] = 1  # Only the lowest band is bright.
    for draw in (plots.log_mel, plots.spectrogram_image):
        image = draw(levels, DEFAULT, ax=ax).images[-1]
        assert image.origin == "lower"
        assert ax.get_ylim() == (0, DEFAULT.n_mels)
        assert image.get_array()[0].min() == 1
        assert image.get_array()[1:].max() == 0
        assert image.get_extent()[2:] == [0, DEFAULT.n_mels]


def test_log_mel_of_hours_takes_no_more_columns_than_a_figure_shows(ax):
    hours = np.zeros((500, *DEFAULT.shape), np.float16)
    image = plots.log_mel(hours, DEFAULT, ax=ax).images[0]
    assert image.get_array().shape[1] <= 20_000
    assert image.get_extent()[1] == pytest.approx(500 * DEFAULT.segment_s)


def test_log_mel_ticks_are_at_the_bands_of_their_frequencies(ax):
    plots.log_mel(np.zeros(DEFAULT.shape), DEFAULT, ax=ax)
    centres = mel_frequencies(DEFAULT)
    for position, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        # Band b is drawn from b to b + 1, with its centre at b + 1/2.
        frequency = np.interp(position - 0.5, np.arange(len(centres)), centres)
        assert frequency == pytest.approx(float(label.get_text()), rel=0.02)


def test_first_layer_maps_cover_the_axes_of_their_image():
    figure = plots.first_layer(np.zeros((*DEFAULT.shape, 3)), np.zeros((10, 26, 65)), DEFAULT)
    axes = figure.get_axes()
    assert len(axes) == 11
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    plt.close(figure)


def test_confusion_shows_counts(ax):
    matrix = pd.DataFrame([[3, 1], [0, 6]], index=["a", "b"], columns=["a", "b"])
    plots.confusion(matrix, ax=ax)
    assert [t.get_text() for t in ax.texts] == ["3", "1", "0", "6"]
    assert labels(ax) == ("Predicted genre", "True genre")


def test_history_draws_training_and_validation():
    table = pd.DataFrame(
        dict(
            epoch=[0, 1],
            loss=[1, 0.5],
            val_loss=[1, 0.9],
            accuracy=[0.5, 1],
            val_accuracy=[0.5, 0.6],
        )
    )
    axes = plots.history(table)
    assert [line.get_label() for line in axes[0].lines] == ["training", "validation"]
    plt.close(axes[0].figure)


def test_intervals_are_in_the_order_of_the_table_with_their_ends(ax):
    table = pd.DataFrame(
        {"label": ["a", "b"], "value": [0.5, 0.8], "low": [0.4, 0.6], "high": [0.7, 0.9]}
    )
    plots.intervals(table, ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted()
    ends = ax.collections[0].get_segments()
    np.testing.assert_allclose([e[:, 0] for e in ends], table[["low", "high"]])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), table["value"])


def test_reliability_draws_a_line_per_table_and_the_diagonal(ax):
    table = pd.DataFrame({"confidence": [0.6, 0.9], "accuracy": [0.5, 1.0], "n": [3, 7]})
    plots.reliability({"before": table, "after": table}, ax=ax)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0], [1, 1]])
    assert [line.get_label() for line in ax.lines[1:]] == ["before", "after"]
    assert labels(ax) == ("Confidence", "Share that is right")


def test_reliability_draws_more_lines_than_there_are_colours(ax):
    table = pd.DataFrame({"confidence": [0.6, 0.9], "accuracy": [0.5, 1.0], "n": [3, 7]})
    plots.reliability({str(i): table for i in range(15)}, ax=ax)
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.lines[1:]}
    assert len(looks) == len(ax.lines) - 1 == 15


def test_history_marks_where_the_second_stage_begins():
    table = pd.DataFrame(
        {"epoch": range(5), "loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5}
    )
    for stages, marks in (([1] * 5, []), ([1, 1, 1, 2, 2], [2.5])):
        axes = plots.history(table.assign(stage=stages))
        for ax in axes:
            dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
            assert dotted == marks
        plt.close(axes[0].figure)


def test_taggram_has_a_row_per_genre_and_a_cell_per_segment(ax):
    table = pd.DataFrame(
        {
            "start_s": [0, 3, 6.0],
            "end_s": [15, 18, 21.0],
            "sounding": [1.0, 0.5, 0.0],
            "prob_a": [1, 0.5, 0],
            "prob_b": [0, 0.5, 1],
            "prob_c": [0, 0.0, 0],
        }
    )
    plots.taggram(table, ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [t.get_color() for t in ax.get_yticklabels()] == ["black", "0.5", "0.5"]
    assert ax.yaxis_inverted()
    assert ax.get_xlim() == (0, 21)
    assert ax.get_xlabel() == "Time (s)"
    rows = [c for c in ax.collections if len(c.get_paths()) == 3]
    assert len(rows) == 3
    strongest = {tuple(row.get_facecolors()[i]) for i, row in enumerate(rows) if i != 1}
    assert len(strongest) == 2
    colors = rows[0].get_facecolors()
    np.testing.assert_allclose(colors[2, :3], 1, atol=0.01)  # An improbable genre is white.
    assert colors[:, 3].tolist() == [1, 0.5, 0]  # Colours fade with the sound.
    ends = [path.vertices[:, 0] for path in rows[0].get_paths()]
    np.testing.assert_allclose([[e.min(), e.max()] for e in ends], [[0, 9], [9, 12], [12, 21]])
    assert [patch.get_hatch() for patch in ax.patches] == ["///"]
    ax = plots.taggram(table.assign(novelty=[0, 1, 30.0]), ax=plt.figure().gca())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c", "novelty"]
    grey = ax.collections[3].get_facecolors()[:, 0]
    np.testing.assert_allclose(grey, [1, 0.6, 0.2], atol=0.01)


def test_taggram_leaves_a_gap_where_a_silent_segment_is_missing(ax):
    table = {"start_s": [0, 30.0], "end_s": [15, 45.0], "prob_a": [1, 0.0], "prob_b": [0, 1.0]}
    plots.taggram(pd.DataFrame(table), ax=ax)
    ends = [path.vertices[:, 0] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose([[e.min(), e.max()] for e in ends], [[0, 15], [30, 45]])


def test_track_draws_the_end_that_only_an_overlapping_segment_covers():
    table = pd.DataFrame({"start_s": [0.0, 5], "end_s": [15.0, 20], "prob_a": 1.0, "prob_b": 0.0})
    log_mels = np.stack([np.full(DEFAULT.shape, level) for level in (-10.0, -30)])
    figure = sound.track(table, log_mels, DEFAULT, title="x")
    end, whole = figure.axes[1].images
    assert end.get_extent()[:2] == pytest.approx((5, 20), abs=0.05)
    assert whole.get_extent()[:2] == pytest.approx((0, 15), abs=0.05)
    assert end.get_clim() == whole.get_clim() == (-30, -10)
    assert figure.axes[1].get_xlim() == (0, 20)


def test_saliency_maps_cover_the_axes_of_their_image():
    image = np.zeros((*DEFAULT.shape, 3))
    figure = plots.saliency_maps(image, {"one": np.ones((4, 5)), "two": np.eye(4) - 0.5}, DEFAULT)
    panels = [ax for ax in figure.get_axes() if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["Input image", "one", "two"]
    extents = {tuple(image.get_extent()) for ax in panels for image in ax.images}
    assert len(extents) == 1
    low, high = panels[2].images[-1].get_clim()
    assert low == -high
    assert panels[1].images[-1].get_clim()[0] == 0
    plt.close(figure)


def test_channel_segments_have_a_row_per_channel_in_the_order_of_the_table():
    table = pd.DataFrame(
        {
            "channel": [1, 1, 2, 2],
            "rank": [1, -1, 1, -1],
            "genre": "a",
            "start_s": 0.0,
            "activation": [3.0, 1, 4, 2],
        }
    )
    figure = plots.channel_segments(table, [np.zeros((*DEFAULT.shape, 3))] * 4, DEFAULT)
    titles = [ax.get_title() for ax in figure.get_axes()]
    assert titles == ["a, 0 s: 3", "a, 0 s: 1", "a, 0 s: 4", "a, 0 s: 2"]
    plt.close(figure)


def test_robustness_shows_counts_in_the_order_of_the_table(ax):
    rates = pd.DataFrame(
        {
            "run": ["b", "b", "a", "a"],
            "transformation": ["noise", "gain", "noise", "gain"],
            "flips": [8, 0, 1, 2],
            "n": 10,
        }
    )
    plots.robustness(rates.assign(rate=rates["flips"] / rates["n"]), ax=ax)
    assert [t.get_text() for t in ax.texts] == ["8 of 10", "1 of 10", "0 of 10", "2 of 10"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["b", "a"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["noise", "gain"]
    assert len(ax.figure.axes) == 1


def test_prediction_without_log_mels_is_an_error():
    with pytest.raises(ValueError, match="no log-mels to draw"):
        plots.prediction(SimpleNamespace(log_mels=None))


def test_names_in_the_stub_of_plots_exist():
    for name in plots.__all__:
        assert getattr(plots, name) is not None


def test_style_is_a_function_after_other_modules_have_been_imported():
    code = "from genrecls import plots; plots.history; plots.log_mel; plots.style()"
    subprocess.run([sys.executable, "-c", code], check=True)
    for wing in (plots, report):
        modules = {module.name for module in pkgutil.iter_modules(wing.__path__)}
        assert not modules & set(wing.__all__)


# A collection


def simulate(colors, deficiency):
    """Return colours in CIELAB as colour-blind people see them (Machado et al., 2009)."""
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors]) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    xyz = seen @ np.array([[0.434, 0.376, 0.19], [0.213, 0.715, 0.072], [0.018, 0.109, 0.873]]).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_ten_colours_are_distinct_to_colour_blind_people(deficiency):
    lab = simulate(plots.COLORS, deficiency)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    assert len(lab) == 10
    assert distances[np.triu_indices(10, 1)].min() > 10


def test_embedding_map_has_an_entry_and_a_look_for_each_of_many_genres(ax):
    genres = ["_misc", *(f"genre {i:02d}" for i in range(39))]
    plots.embedding_map(pd.DataFrame({"genre": genres, "x": 0.0, "y": 0.0}), ax=ax)
    assert [text.get_text().strip() for text in ax.get_legend().get_texts()] == genres
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 40


def test_learning_curve_shows_its_numbers_of_groups(ax):
    curve = pd.DataFrame({"groups": [1, 2, 4, 7], "value": 0.5, "low": 0.4, "high": 0.6})
    plots.learning_curve(curve, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "7"]
    assert ax.get_ylim()[0] == 0


def test_ranking_draws_the_first_ten_tracks_with_both_genres(ax):
    table = pd.DataFrame({"path": [f"rap/{i}.mp3" for i in range(12)], "genre": "rap"})
    table = table.assign(probability=np.linspace(0, 1, 12), predicted=["jazz", *11 * ["rap"]])
    plots.ranking(table, "probability", ax=ax)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["0.mp3", "1.mp3"]
    assert len(ax.patches) == 10
    assert [text.get_text() for text in ax.texts[:2]] == [" rap, predicted: jazz", " rap"]
    plots.ranking(table.drop(columns="predicted"), "probability", ax=ax)
    assert ax.texts[-1].get_text() == " rap"
