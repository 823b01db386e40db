"""What is compared: the nets, and what they have to beat, from saying always the same to an SVM.

All are cross-validated like the nets; see :func:`genrecls.evaluation.runs.cross_validate`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from genrecls.config import FrontEnd, Recipe, run_name
from genrecls.corpus.tracks import Corpus
from genrecls.features.prepare import Features
from genrecls.training.cross_validation import Candidate, network_candidate

N_MFCC = 20


def majority(front_end: FrontEnd) -> Candidate:
    """Says the commonest genre of the training segments, as probable as it is common there."""

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        train = segments["split"] == "train"
        shares = segments.loc[train, "genre"].value_counts(normalize=True).sort_index()
        return np.tile(shares.to_numpy(), (np.count_nonzero(~train), 1))

    return Candidate("majority", front_end, fit_predict, {"model": "majority"})


def one_number(name: str, values: pd.Series, front_end: FrontEnd) -> Candidate:
    """Knows one number of each track and nothing of its sound, such as its duration.

    Parameters
    ----------
    name : str
        Of the number, such as ``duration_s``.
    values : pd.Series
        Per ``track_id``; see :func:`genrecls.corpus.audit.audit`.
    front_end : FrontEnd
        Decides which segments there are to predict.
    """
    from genrecls.corpus.confounds import one_number_classifier

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        x = values.reindex(segments["track_id"]).to_frame().reset_index(drop=True)
        train = (segments["split"] == "train").to_numpy()
        model = one_number_classifier().fit(x[train], segments.loc[train, "genre"])
        return model.predict_proba(x[~train])

    settings = {"model": "one number", "number": name, "values": values.astype(str).to_dict()}
    return Candidate(f"{name}-alone", front_end, fit_predict, settings)


def mfcc_svm(front_end: FrontEnd) -> Candidate:
    """Mean and spread of MFCCs over a segment, and a support vector machine (Tzanetakis 2002 on).

    The MFCCs come from the log-mels of the front end, so that it hears what the nets hear. The
    machine's margins become probabilities by a softmax; the temperature of the cross-validation
    does the rest.
    """

    def fit_predict(features: Features, segments: pd.DataFrame, _: int) -> np.ndarray:
        from scipy.special import softmax
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        x = mfcc_statistics(features.log_mels(segments)[..., 0])
        train = (segments["split"] == "train").to_numpy()
        machine = SVC(C=10.0, class_weight="balanced", decision_function_shape="ovr")
        model = make_pipeline(StandardScaler(), machine).fit(x[train], segments["genre"][train])
        margins = model.decision_function(x[~train])
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        return softmax(margins, axis=1)

    return Candidate("mfcc_svm", front_end, fit_predict, {"model": "mfcc_svm", "n_mfcc": N_MFCC})


def mfcc_statistics(log_mels: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the MFCCs, and of their change from frame to frame.

    Parameters
    ----------
    log_mels : np.ndarray [shape=(segments, n_mels, frames)] (in dB)

    Returns
    -------
    np.ndarray [shape=(segments, 3 * 20)]
    """
    import librosa

    mfcc = librosa.feature.mfcc(S=log_mels, n_mfcc=N_MFCC)
    change = librosa.feature.delta(mfcc)
    return np.concatenate([mfcc.mean(-1), mfcc.std(-1), change.std(-1)], axis=-1)


def comparison_candidates(
    corpus: Corpus, *, jobs: int | None = None, progress: bool = True
) -> dict[str, Candidate]:
    """What ``genrecls crossval`` compares, by name, from the simplest to the largest.

    The one telltale number is the one that does best in the audit of this corpus; it is chosen on
    the same tracks that it is then tested on, to its advantage.
    """
    from genrecls.corpus.audit import audit

    default, seed = FrontEnd.preset("default"), FrontEnd.preset("original")
    measured = audit(corpus, jobs=jobs, progress=progress)
    models = [majority(default)]
    if len(measured.confounds):
        number = measured.confounds["confound"].iloc[0]
        track_id = corpus.tracks.loc[measured.tracks.index, "track_id"]
        values = measured.tracks[number].set_axis(track_id)
        models.append(one_number(number, values, default))
    models.append(mfcc_svm(default))
    for preset, front_end, model, changes in (
        ("original", seed, "cnn", {}),
        ("default", default, "cnn", {}),
        ("default", default, "compact_cnn", {}),
        ("default", default, "inception_resnet_v2", {}),
        ("default", default, "efficientnet_lite0", {}),
        ("default", default, "efficientnet_lite0", {"weights": None}),
    ):
        recipe = Recipe.preset(preset, model, **changes)
        models.append(network_candidate(run_name(preset, recipe), recipe, front_end))
    return {model.name: model for model in models}
