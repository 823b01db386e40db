"""Everything from files to report, for three genres and for ten."""

import pytest
from conftest import write_corpus

from genrecls import Corpus, FrontEnd, Recipe, train
from genrecls import horses as horse
from genrecls.audit import audit, write_audit
from genrecls.baselines import majority, mfcc_svm, one_number
from genrecls.crossval import cross_validate, net
from genrecls.features import prepare
from genrecls.gallery import make_gallery
from genrecls.report import saved_runs, write_report


@pytest.mark.parametrize("k", [3, 10])
def test_the_whole_way_for_any_number_of_genres(k, tmp_path, home, monkeypatch):
    genres = sorted(f"genre {chr(97 + i)}" for i in range(k))
    corpus = Corpus.read(write_corpus(tmp_path / "many", genres=genres, seconds=16.0))
    front_end = FrontEnd.preset("default")

    found = audit(corpus, progress=False)
    assert found.genres["genre"].tolist() == genres
    assert found.confounds["auc alone"].between(0, 1).all()
    write_audit(found, home / "reports" / "many")

    make_gallery(corpus, prepare(corpus, front_end, progress=False))
    recipe = Recipe.preset("default", "compact_cnn", epochs=2)
    run = train(corpus, recipe, front_end, name="compact_cnn-default", progress=False)
    assert run.model.output_shape == (None, k)

    values = found.tracks["duration_s"].set_axis(corpus.tracks.loc[found.tracks.index, "track_id"])
    for model in (
        majority(front_end),
        one_number("duration_s", values, front_end),
        mfcc_svm(front_end),
        net("compact_cnn-default", recipe, front_end),
    ):
        tested = cross_validate(corpus, model, folds=2, repeats=1, progress=False)
        assert len(tested) == len(run.segments)
    cross_validate(corpus, mfcc_svm(front_end), folds=2, repeats=1, validation="piece",
                   progress=False)  # fmt: skip

    some = {name: horse.TRANSFORMATIONS[name] for name in ("mono", "gain −6 dB")}
    monkeypatch.setattr(horse, "TRANSFORMATIONS", some)
    horse.ride(saved_runs("many"), corpus, tracks=1, pieces=1, progress=False)

    text = write_report("many").with_suffix(".md").read_text(encoding="utf-8")
    for heading in ("Cross-validation", "The leak", "Calibration", "Horses", "Audit"):
        assert f"## {heading}" in text
    confusion = (home / "reports" / "many" / "cv_confusion_mfcc_svm.csv").read_text().splitlines()
    assert len(confusion) == k + 1 and all(line.count(",") == k for line in confusion)
