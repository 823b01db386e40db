import json
import subprocess
import sys

import pytest

from genrecls import FrontEnd, Recipe
from genrecls.config import run_name


def test_seed_preset_is_the_original_front_end():
    seed = FrontEnd.preset("original")
    assert (seed.sample_rate, seed.n_fft, seed.hop_length, seed.n_mels) == (44100, 10000, 4096, 400)
    assert seed.channel == "first" and seed.colormap == "viridis"
    assert seed.image_db == (0.0, pytest.approx(3.0103, abs=1e-4))


def test_default_front_end_stops_below_any_common_low_pass():
    assert FrontEnd.preset("default").f_max <= 8000


def test_seed_recipes_are_the_originals():
    cnn, inception = (Recipe.preset("original", m) for m in ("cnn", "inception_resnet_v2"))
    assert (cnn.batch_size, cnn.learning_rate, cnn.epochs, cnn.halve_every) == (10, 1e-3, 150, 10)
    assert (inception.epochs, inception.halve_every, inception.backbone) == (50, None, "trained")
    assert cnn.split_by == inception.split_by == "segment" and cnn.optimizer == "sgd"


@pytest.mark.parametrize("config", [FrontEnd.preset("original"), Recipe.preset("default")])
def test_a_config_survives_json_and_its_uid_too(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.uid() == config.uid()


def test_unknown_keys_and_values_are_errors():
    with pytest.raises(ValueError, match="n_mel'"):
        FrontEnd.from_dict({"n_mel": 3})
    with pytest.raises(ValueError, match="no 'best'"):
        FrontEnd.preset("best")
    with pytest.raises(ValueError, match="no 'resnet'"):
        Recipe.preset("original", "resnet")
    with pytest.raises(ValueError, match="optimizer"):
        Recipe(optimizer="lion")
    with pytest.raises(ValueError, match="epochs"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="n_mels"):
        FrontEnd(n_mels="64")
    with pytest.raises(ValueError, match="f_max"):
        FrontEnd(f_max=20000.0)
    with pytest.raises(ValueError, match="colormap"):
        FrontEnd(colormap="jet")
    with pytest.raises(ValueError, match="gain_db"):
        Recipe(gain_db=-1.0)


def test_choices_that_contradict_each_other_are_errors():
    with pytest.raises(ValueError, match="no backbone"):
        Recipe(backbone="frozen")
    with pytest.raises(ValueError, match="no backbone"):
        Recipe(weights="imagenet")
    with pytest.raises(ValueError, match="computed once"):
        Recipe.preset("default", "efficientnet_lite0", time_shift=True)
    with pytest.raises(ValueError, match="second stage"):
        Recipe.preset("default", "efficientnet_lite0", backbone="trained")


def test_choices_name_what_is_not_off():
    plain, to_mono = Recipe().choices(), Recipe(mixup=0.2).choices()
    assert not {"patience", "mixup", "time_mask", "time_shift", "weights"} & set(plain)
    assert to_mono == plain | {"mixup": 0.2}
    # What usual values are may change some day.
    assert plain["learning_rate"] == 3e-4 and plain["class_weights"] is True
    assert not Recipe().augmented and Recipe(mixup=0.2).augmented


def test_log_mels_do_not_depend_on_how_they_are_drawn():
    usual = FrontEnd()
    drawn = FrontEnd(colormap="viridis", image_db=(-60.0, 0.0))
    assert drawn.log_mel_uid == usual.log_mel_uid and drawn.uid() != usual.uid()
    assert FrontEnd(n_mels=64).log_mel_uid != usual.log_mel_uid


def test_a_run_of_another_recipe_has_another_name():
    frozen = Recipe.preset("original", "inception_resnet_v2", backbone="frozen")
    assert run_name("original", frozen) == "inception_resnet_v2-original"
    full = Recipe.preset("original", "inception_resnet_v2")
    assert run_name("original", full) == "inception_resnet_v2-original-backbone-trained"
    own = Recipe.preset("default", "inception_resnet_v2", weights="/my/backbone.h5")
    assert run_name("default", own) == "inception_resnet_v2-default-weights-backbone"
    random = Recipe.preset("default", "efficientnet_lite0", weights=None)
    assert run_name("default", random) == "efficientnet_lite0-default-weights-random"
    whole = Recipe.preset(
        "default", "efficientnet_lite0", backbone="trained", fine_tune_after=None, epochs=2
    )
    assert run_name("default", whole) == "efficientnet_lite0-default-epochs-2-backbone-trained"
    assert run_name("original", Recipe.preset("original", "cnn", epochs=2)) == "cnn-original-epochs-2"


def test_importing_the_package_loads_neither_tensorflow_nor_torch():
    code = (
        "import sys, genrecls; "
        "print([m for m in ('tensorflow', 'torch', 'keras', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    import genrecls

    for name in genrecls.__all__:
        assert getattr(genrecls, name) is not None
