import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from genrecls import FrontEnd, Recipe
from genrecls.config import choose, run_name


def test_front_end_original_preset_is_that_of_the_lab():
    original = FrontEnd.preset("original")
    assert (original.sample_rate, original.n_fft, original.hop_length, original.n_mels) == (
        44100,
        10000,
        4096,
        400,
    )
    assert original.channel == "first" and original.colormap == "viridis"
    assert original.image_db == (0.0, pytest.approx(3.0103, abs=1e-4))


def test_front_end_default_preset_ends_below_common_low_passes():
    assert FrontEnd.preset("default").f_max <= 8000


def test_recipe_original_presets_are_those_of_the_lab():
    cnn, inception = (Recipe.preset("original", m) for m in ("cnn", "inception_resnet_v2"))
    assert (cnn.batch_size, cnn.learning_rate, cnn.epochs, cnn.halve_every) == (10, 1e-3, 150, 10)
    assert (inception.epochs, inception.halve_every, inception.backbone) == (50, None, "trained")
    assert cnn.split_by == inception.split_by == "segment" and cnn.optimizer == "sgd"


@pytest.mark.parametrize("config", [FrontEnd.preset("original"), Recipe.preset("default")])
def test_config_survives_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config


def test_config_refuses_unknown_keys_and_values():
    with pytest.raises(ValueError, match="n_mel'"):
        FrontEnd.from_dict({"n_mel": 3})
    with pytest.raises(ValueError, match="no preset 'best'"):
        FrontEnd.preset("best")
    with pytest.raises(ValueError, match="no original recipe for model 'resnet'"):
        Recipe.preset("original", "resnet")
    with pytest.raises(ValueError, match="optimizer"):
        Recipe(optimizer="lion")
    with pytest.raises(ValueError, match="epochs"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="n_mels"):
        FrontEnd(n_mels="64")
    with pytest.raises(ValueError, match="f_max"):
        FrontEnd(f_max=20000.0)
    with pytest.raises(ValueError, match="segment_s must be above 0"):
        FrontEnd(segment_s=0)
    with pytest.raises(ValueError, match="colormap"):
        FrontEnd(colormap="jet")
    with pytest.raises(ValueError, match="mixup"):
        Recipe(mixup=2.0)
    with pytest.raises(ValueError, match="time_shift"):
        Recipe.preset("default", "cnn", time_shift=True)


def test_recipe_refuses_contradictions():
    with pytest.raises(ValueError, match="no backbone"):
        Recipe(backbone="frozen")
    with pytest.raises(ValueError, match="no backbone"):
        Recipe(weights="imagenet")
    with pytest.raises(ValueError, match="computed once"):
        Recipe.preset("default", "efficientnet_lite0", mixup=0.5)
    with pytest.raises(ValueError, match="second stage"):
        Recipe.preset("default", "efficientnet_lite0", backbone="trained")
    with pytest.raises(ValueError, match="needs backbone='frozen' and fine_tune_after=None"):
        Recipe.preset("default", "musicnn", backbone="trained")
    with pytest.raises(ValueError, match="needs backbone='frozen' and fine_tune_after=None"):
        Recipe.preset("default", "efficientnet_lite0", head="logistic")
    with pytest.raises(ValueError, match="'musicnn' needs head='logistic'"):
        Recipe.preset("default", "musicnn", head="pool")


def test_recipe_choices_leave_out_what_is_off():
    plain, mixed = Recipe().choices(), Recipe(mixup=0.2).choices()
    assert not {"patience", "mixup", "crop", "weights"} & set(plain)
    assert mixed == plain | {"mixup": 0.2}
    assert plain["learning_rate"] == 3e-4 and plain["class_weights"] is True
    assert not Recipe().augmented and Recipe(mixup=0.2).augmented


def test_front_end_log_mel_uid_ignores_colours():
    usual = FrontEnd()
    drawn = FrontEnd(colormap="viridis", image_db=(-60.0, 0.0))
    assert drawn.log_mel_uid == usual.log_mel_uid and drawn != usual
    assert FrontEnd(n_mels=64).log_mel_uid != usual.log_mel_uid


def test_run_name_names_what_differs_from_the_usual_recipe():
    frozen = Recipe.preset("original", "inception_resnet_v2", backbone="frozen")
    assert run_name("original", frozen) == "inception_resnet_v2-original"
    full = Recipe.preset("original", "inception_resnet_v2")
    assert run_name("original", full) == "inception_resnet_v2-original-backbone-trained"
    own = Recipe.preset("default", "inception_resnet_v2", weights="/my/backbone.h5")
    assert run_name("default", own) == "inception_resnet_v2-default-weights-backbone"
    random = Recipe.preset("default", "efficientnet_lite0", weights=None)
    assert run_name("default", random) == "efficientnet_lite0-default-weights-random"
    tagged = Recipe.preset("default", "musicnn", weights="mtt")
    assert run_name("default", tagged) == "musicnn-default-weights-mtt"
    whole = Recipe.preset(
        "default", "efficientnet_lite0", backbone="trained", fine_tune_after=None, epochs=2
    )
    assert run_name("default", whole) == "efficientnet_lite0-default-backbone-trained-epochs-2"
    assert (
        run_name("original", Recipe.preset("original", "cnn", epochs=2)) == "cnn-original-epochs-2"
    )
    fewer = dataclasses.replace(FrontEnd.preset("default"), n_mels=64)
    assert run_name("default", Recipe("cnn"), fewer) == "cnn-default-n_mels-64"
    musicnn = Recipe.preset("default", "musicnn")
    assert run_name("default", musicnn, FrontEnd.preset("musicnn")) == "musicnn-default"


def test_run_name_stays_short_enough_for_names_of_files():
    musicnn = FrontEnd.preset("musicnn")
    names = {run_name("default", Recipe("cnn", epochs=n), musicnn) for n in (2, 3)}
    assert len(names) == 2
    assert {len(name) for name in names} == {100}
    assert all(name.startswith("cnn-default-epochs-") for name in names)


def test_package_import_loads_no_heavy_module():
    code = (
        "import sys, genrecls; "
        "print([m for m in ('tensorflow', 'torch', 'keras', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_public_names_exist():
    import genrecls

    for name in genrecls.__all__:
        assert getattr(genrecls, name) is not None


def test_choose_takes_a_name_a_recipe_or_a_builder():
    recipe, front_end, builder = choose("compact_cnn", epochs=3)
    assert recipe == Recipe.preset("default", "compact_cnn", epochs=3) and builder is None
    assert front_end == FrontEnd.preset("default")
    for musicnn in ("musicnn", Recipe.preset("default", "musicnn")):
        assert choose(musicnn)[1] == FrontEnd.preset("musicnn")
    own = FrontEnd(n_mels=64)
    assert choose("musicnn", front_end=own)[1] == own
    assert choose(recipe, "original", own, epochs=5)[:2] == (
        Recipe.preset("default", "compact_cnn", epochs=5),
        own,
    )

    def my_net(input_shape, n_classes):
        raise NotImplementedError

    recipe, _, builder = choose(my_net, "default", epochs=2)
    assert recipe.model == "my_net" and recipe.epochs == 2 and builder is my_net
    assert run_name("default", recipe) == "my_net-default-epochs-2"
    with pytest.raises(ValueError, match="no default recipe for model 'vgg'"):
        choose("vgg")


def test_weights_may_be_a_path_and_stay_ready_for_json():
    recipe = Recipe.preset("default", "inception_resnet_v2", weights=Path("a") / "x.weights.h5")
    assert json.loads(json.dumps(recipe.to_dict()))["weights"] == str(Path("a") / "x.weights.h5")


def test_run_name_takes_a_recipe_that_its_preset_does_not_have():
    assert run_name("original", Recipe.preset("default", "musicnn")).startswith("musicnn-original-")
