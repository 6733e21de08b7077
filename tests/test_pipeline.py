import inspect
import re

import numpy as np
import pytest
import torch
from conftest import make_pipeline, seeded
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from PIL import Image

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.color import colorfulness, join, rgb_to_luma


SIZES = [(1, 1), (1, 999), (997, 3), (2, 2), (33, 1), (64, 48), (131, 257)]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]


def random_image(size, mode, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert("RGBA" if mode == "LA" else mode).convert(mode)


@pytest.mark.parametrize("target", ["chroma", "rgb"])
@pytest.mark.parametrize("saturation", [0, 1, 2])
def test_gray_is_kept_at_every_pixel_for_any_size_and_mode(target, saturation):
    pipeline = make_pipeline(target)
    images = [random_image(size, MODES[i % len(MODES)], i) for i, size in enumerate(SIZES)]
    images += [random_image((40, 30), mode) for mode in MODES]

    outputs = pipeline(images, saturation=saturation, num_inference_steps=1, generator=seeded(0)).images

    for image, output in zip(images, outputs, strict=True):
        assert output.size == image.size and output.mode == "RGB"
        assert np.array_equal(np.asarray(output.convert("L")), np.asarray(image.convert("L")))


def test_sixteen_bit_gray_is_kept_to_the_code(pipeline):
    codes = np.random.default_rng(0).integers(0, 65536, (70, 51), dtype=np.uint16)

    output = pipeline(Image.fromarray(codes), output_type="np", generator=seeded(0)).images[0]

    rgb = torch.from_numpy(np.rint(output * 65535).astype(np.uint16))
    assert np.array_equal(rgb_to_luma(rgb).numpy(), codes)
    assert len(np.unique(rgb.numpy()[..., 0])) > 256


def test_chroma_alone_is_that_of_the_images_and_joins_to_them(pipeline, photo):
    whole = pipeline(photo, generator=seeded(0))
    alone = pipeline(photo, generator=seeded(0), output_type="chroma")

    assert alone.images == [] and torch.equal(alone.chroma[0], whole.chroma[0])
    joined = join(torch.from_numpy(np.array(photo)), alone.chroma[0])
    assert np.array_equal(joined.numpy(), np.asarray(whole.images[0]))


def test_a_line_of_pixels_is_painted_with_the_work_of_a_few_photos(pipeline):
    luma = torch.arange(65_000).to(torch.uint8)[:, None]

    luminance, (rows, columns) = pipeline.image_processor.preprocess(luma, 192)

    assert columns == 1 and luminance.numel() <= 4 * 192**2 and rows * 4 <= 16 * 192
    assert np.array_equal(np.asarray(pipeline(luma.numpy()).images[0].convert("L")), luma.numpy())


def test_every_form_of_one_photo_gives_the_same_colors(pipeline, photo):
    array = np.asarray(photo)
    forms = [
        photo,
        array,
        array[:, :, None].repeat(3, axis=2),
        array.astype(np.float32) / 255,
        torch.tensor(array),
        torch.tensor(array)[None],
        torch.tensor(array)[None, None] / 255,
        [photo],
    ]

    outputs = [pipeline(form, generator=seeded(0)).images[0] for form in forms]

    for output in outputs[1:]:
        difference = np.abs(np.asarray(output).astype(int) - np.asarray(outputs[0]).astype(int))
        assert difference.max() <= 1  # the network sees 8-bit and 16-bit codes, equal to 1e-7


def test_a_batch_equals_its_images_one_by_one(pipeline, photo):
    photos = [photo, photo.rotate(90, expand=True), photo.crop((0, 0, 33, 33)), photo.transpose(Image.FLIP_TOP_BOTTOM)]

    batch = pipeline(photos, generator=[seeded(i) for i in range(4)])
    singles = [pipeline(image, generator=seeded(i)) for i, image in enumerate(photos)]

    for number, single in enumerate(singles):
        assert (batch.chroma[number] - single.chroma[0]).abs().max() <= 1e-4
        # A difference of 1e-8 before rounding can still move a code by one.
        codes, expected = (np.asarray(image).astype(int) for image in (batch.images[number], single.images[0]))
        assert np.abs(codes - expected).max() <= 1 and np.mean(codes != expected) < 1e-2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(pipeline, photo):
    first, second, other = (pipeline(photo, generator=seeded(seed)).images[0].tobytes() for seed in (7, 7, 8))

    assert first == second
    assert first != other


def test_a_saved_pipeline_loads_with_the_same_bytes(pipeline, photo, tmp_path):
    pipeline.save_pretrained(tmp_path)

    loaded = ColorizationPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)

    assert loaded.config.default_processing_resolution == 32
    before, after = (pipe(photo, generator=seeded(0)).images[0].tobytes() for pipe in (pipeline, loaded))
    assert before == after


def test_pickled_weights_and_pipelines_of_another_class_are_not_loaded(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    pipeline.save_pretrained(tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    index.write_text(index.read_text().replace("ColorizationPipeline", "DDPMPipeline"))

    with pytest.raises(ValueError, match="no safetensors"):
        ColorizationPipeline.from_pretrained(tmp_path / "pickled")
    with pytest.raises(ValueError, match="'ColorizationPipeline'.*'DDPMPipeline'"):
        ColorizationPipeline.from_pretrained(tmp_path / "other")


def test_the_tuple_holds_what_the_output_holds(pipeline, photo):
    output = pipeline(photo, generator=seeded(0), ensemble_size=3, output_uncertainty=True)
    images, chroma, uncertainty = pipeline(
        photo, generator=seeded(0), ensemble_size=3, output_uncertainty=True, return_dict=False
    )

    assert images[0].tobytes() == output.images[0].tobytes()
    assert torch.equal(chroma[0], output.chroma[0])
    assert uncertainty[0].tobytes() == output.uncertainty[0].tobytes()


def test_a_callback_sees_every_step_and_can_stop_the_run(pipeline, photo):
    seen = []

    def stop_after_two(pipe, step, timestep, tensors):
        seen.append((step, int(timestep), tuple(tensors["sample"].shape[:2])))
        pipe._interrupt = step == 1

    output = pipeline(photo, num_inference_steps=4, callback_on_step_end=stop_after_two, generator=seeded(0))

    assert seen == [(0, 999, (1, 2)), (1, 749, (1, 2))]
    assert np.array_equal(np.asarray(output.images[0].convert("L")), np.asarray(photo))


def test_photos_that_a_stopped_run_never_came_to_stay_gray(pipeline, photo):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = True

    waiting = photo.rotate(90, expand=True)

    begun, untouched = pipeline([photo, waiting], callback_on_step_end=stop, generator=seeded(0)).images

    assert np.array_equal(np.asarray(untouched), np.asarray(waiting.convert("RGB")))
    assert not np.array_equal(np.asarray(begun), np.asarray(photo.convert("RGB")))


def test_versions_and_ensembles_come_in_the_order_of_the_photos(pipeline, photo):
    other = photo.crop((0, 0, 40, 40))

    output = pipeline([photo, other], num_images_per_input=2, ensemble_size=3, output_uncertainty=True)

    assert [image.size for image in output.images] == [photo.size] * 2 + [other.size] * 2
    assert [image.size for image in output.uncertainty] == [photo.size] * 2 + [other.size] * 2
    assert output.images[0].tobytes() != output.images[1].tobytes()


def test_one_list_of_generators_reproduces_each_version_alone(pipeline, photo):
    versions = pipeline(photo, num_images_per_input=2, generator=[seeded(0), seeded(1)]).images

    alone = pipeline(photo, generator=seeded(1)).images[0]

    difference = np.asarray(versions[1]).astype(int) - np.asarray(alone).astype(int)
    assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 1e-2


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        UniPCMultistepScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
    ],
)
def test_any_scheduler_fits_the_slot(pipeline, photo, scheduler):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)

    output = pipeline(photo, num_inference_steps=4, generator=seeded(0), output_type="np")

    assert torch.isfinite(output.chroma[0]).all()
    assert output.images[0].shape == (60, 90, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close_to_float32(pipeline, photo, dtype):
    expected = pipeline(photo, generator=seeded(0)).chroma[0]

    pipeline.to(dtype)
    output = pipeline(photo, generator=seeded(0)).chroma[0]

    assert output.dtype == torch.float32
    assert (output - expected).abs().max() < 0.05  # of 0.5


def test_what_the_mask_leaves_black_stays_as_it_came(pipeline):
    image = random_image((50, 40), "RGB")
    mask = Image.new("L", image.size)
    mask.paste(255, (0, 0, 25, 40))

    output = np.asarray(pipeline(image, mask_image=mask, generator=seeded(0)).images[0])

    assert np.array_equal(output[:, 25:], np.asarray(image)[:, 25:])
    assert not np.array_equal(output[:, :25], np.asarray(image)[:, :25])
    assert np.array_equal(np.asarray(Image.fromarray(output).convert("L")), np.asarray(image.convert("L")))

    codes = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    deep = pipeline(codes, mask_image=mask, output_type="np", generator=seeded(0)).images[0]
    deep = np.rint(deep * 65535).astype(np.uint16)

    assert np.array_equal(deep[:, 25:], codes[:, 25:])
    assert not np.array_equal(deep[:, :25], codes[:, :25])
    assert np.array_equal(rgb_to_luma(torch.from_numpy(deep)), rgb_to_luma(torch.from_numpy(codes)))


def test_a_network_that_answers_nan_is_refused_instead_of_painted(pipeline, photo):
    torch.nn.init.constant_(pipeline.unet.conv_out.bias, float("nan"))

    with pytest.raises(ValueError, match="NaN instead of colors"):
        pipeline(photo, target_colorfulness=25.0)


def test_target_colorfulness_is_met(pipeline, photo):
    output = pipeline(photo, target_colorfulness=25.0, output_type="pt", generator=seeded(0)).images[0]

    assert colorfulness(output) == pytest.approx(25, rel=0.01)


def test_guidance_of_one_is_none_and_of_zero_ignores_the_photo(pipeline, photo):
    inverted = Image.fromarray(255 - np.asarray(photo))

    plain, one = (pipeline(photo, guidance_scale=scale, generator=seeded(0)).chroma[0] for scale in (None, 1.0))
    zero, zero_inverted = (
        pipeline(image, guidance_scale=0.0, generator=seeded(0)).chroma[0] for image in (photo, inverted)
    )

    assert torch.equal(plain, one)
    assert torch.equal(zero, zero_inverted)
    assert not torch.equal(zero, one)


def test_every_argument_of_the_call_is_documented():
    documented = set(re.findall(r"^ +(\w+) \(", ColorizationPipeline.__call__.__doc__, re.MULTILINE))

    arguments = set(inspect.signature(ColorizationPipeline.__call__).parameters) - {"self"}

    assert arguments <= documented


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"image": "photo.jpg"}, ["`image`", "str", "PIL.Image.open"]),
        ({"image": []}, ["`image`", "empty"]),
        ({"image": np.zeros((4, 4, 7))}, ["`image`", "(4, 4, 7)", "1 to 4 channels"]),
        ({"image": np.full((4, 4), 2.0)}, ["`image`", "[0, 1]", "255"]),
        ({"image": np.full((4, 4), np.nan)}, ["`image`", "[0, 1]"]),
        ({"image": np.zeros((4, 4), dtype=np.int64)}, ["`image`", "int64"]),
        ({"image": Image.new("F", (4, 4))}, ["`image`", "'F'", "convert"]),
        ({"num_inference_steps": 0}, ["`num_inference_steps`", "0"]),
        ({"num_inference_steps": 61}, ["`num_inference_steps`", "61", "near"]),
        ({"ensemble_size": 2, "output_uncertainty": True}, ["`ensemble_size`", "3", "2"]),
        ({"output_type": "tiff"}, ["`output_type`", "'tiff'", "pil"]),
        ({"generator": [torch.Generator()] * 2}, ["`generator`", "2", "1 photos"]),
        ({"saturation": -1}, ["`saturation`", "-1"]),
        ({"saturation": 2, "target_colorfulness": 30}, ["`target_colorfulness`", "`saturation`"]),
        ({"processing_resolution": -1}, ["`processing_resolution`", "-1"]),
        ({"hints": [(500, 0, "red")]}, ["`hints`", "500", "90 x 60"]),
        ({"hints": Image.new("RGB", (9, 9))}, ["`hints`", "alpha"]),
        ({"hints": [(1, 1, "no color")]}, ["`hints`", "no color"]),
        ({"hints": np.zeros((60, 90, 4))}, ["`hints`", "points", "ndarray"]),
        ({"image": [Image.new("L", (9, 9))], "hints": Image.new("RGBA", (9, 9))}, ["`hints`", "list", "1 photos"]),
        ({"saturation": None}, ["`saturation`", "None"]),
        ({"mask_image": Image.new("L", (5, 5))}, ["`mask_image`", "(5, 5)", "(60, 90)"]),
        ({"mask_image": np.full((60, 90), 255.0)}, ["`mask_image`", "255", "[0, 1]"]),
        ({"mask_image": "mask.png"}, ["`mask_image`", "str", "PIL.Image.open"]),
        ({"generator": (torch.Generator(),)}, ["`generator`", "list", "("]),
        ({"target_colorfulness": "30"}, ["`target_colorfulness`", "'30'"]),
    ],
)
def test_a_wrong_argument_is_named_with_what_came(pipeline, photo, arguments, words):
    with pytest.raises(ValueError) as error:
        pipeline(**{"image": photo, **arguments})

    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_network_that_does_not_fit_is_refused(pipeline):
    unet = UNet2DModel(
        in_channels=5,
        out_channels=2,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )

    with pytest.raises(ValueError, match="5 inputs and 2 outputs"):
        ColorizationPipeline(unet, pipeline.scheduler)
