"""Model folders that somebody has damaged, or made to do harm: a sound one, and one change to it."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


CONFIGS = ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "image_encoder/config.json")
WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "image_encoder/model.safetensors")

# What comes where something else is expected. Some of it is harmless in some places.
VALUES = (
    None, True, [], {}, [None], {"a": {"b": []}}, "", "nosuch", "1", "x" * 100_000, "two\nlines", "../../etc/passwd",
    -1, 0, 1, 3, 0.5, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"), 10**8, 1e8, 10**9, 10**30, [0], [-1],
    [1] * 9, [10**9], [0.5, "a"], [float("nan")] * 1000, [[1]], ["diffusers", "UNet2DModel"], ["os", "system"],
    [16] * 100_000, ["DownBlock2D"] * 9,
)  # fmt: skip

# What the report that led to these checks named.
KNOWN = (
    ("unet/config.json", "norm_num_groups", 0),
    ("unet/config.json", "layers_per_block", 10**9),
    ("unet/config.json", "block_out_channels", []),
    ("unet/config.json", "block_out_channels", [10**9, 10**9]),
    ("unet/config.json", "attention_head_dim", 2000),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 1e8),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 10**8),
    ("scheduler/scheduler_config.json", "beta_end", float("nan")),
    ("scheduler/scheduler_config.json", "trained_betas", [float("nan")] * 1000),
    ("model_index.json", "chroma_scale", -1),
    ("model_index.json", "unet", None),
    ("model_index.json", "unet", ["os", "system"]),
    ("model_index.json", "scheduler", ["diffusers", "DiffusionPipeline"]),
    ("image_encoder/config.json", "num_block_repeats", [10**9] * 7),
    ("image_encoder/config.json", "hidden_dim", 10**9),
    ("image_encoder/config.json", "strides", [1] * 7),
    ("image_encoder/config.json", "num_labels", 10**9),
    ("image_encoder/config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
)


@dataclass(frozen=True)
class Mutant:
    """`damage` changes a sound folder; `name` says what it changes."""

    name: str
    damage: Callable[[Path], object]


def set_value(file: Path, name: str, value: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))


def make_mutants(sound: Path, number: int, seed: int = 0) -> list[Mutant]:
    """
    Give all changes of files, what is known to have done harm, and of all other changes of values a random choice.

    Args:
        sound (`Path`): A pipeline that was saved, with an image encoder.
        number (`int`): How many in all.
        seed (`int`, *optional*, defaults to 0): Chooses.
    """
    mutants = [Mutant(f"{file}: {what}", _on(file, damage)) for file in CONFIGS for what, damage in _FILES + _TEXTS]
    mutants += [Mutant(f"{file}: {what}", _on(file, damage)) for file in WEIGHTS for what, damage in _FILES + _HEADERS]
    mutants += [
        Mutant(f"{file}: truncated at {part:.0%}", _truncated(file, part)) for file in WEIGHTS for part in _PARTS
    ]
    mutants += [_with_value(*known) for known in KNOWN]
    others = [
        _with_value(file, name, value)
        for file in CONFIGS
        for name in json.loads((sound / file).read_text())
        for value in (*VALUES, _MISSING)
    ]
    return (mutants + random.Random(seed).sample(others, len(others)))[:number]


_MISSING = object()
_PARTS = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999)


def _with_value(file: str, name: str, value: object) -> Mutant:
    def damage(folder: Path) -> None:
        values = json.loads((folder / file).read_text())
        values[name] = value
        if value is _MISSING:
            del values[name]
        (folder / file).write_text(json.dumps(values))

    told = "missing" if value is _MISSING else repr(value)[:40]
    return Mutant(f"{file}: {name} {told}", damage)


def _on(file: str, damage: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: damage(folder / file)


def _truncated(file: str, part: float) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / file, int((folder / file).stat().st_size * part))


def _replace(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


_FILES = (
    ("missing", Path.unlink),
    ("a folder", lambda file: _replace(file, Path.mkdir)),
    ("a pipe", lambda file: _replace(file, os.mkfifo)),
    ("/dev/zero", lambda file: _replace(file, lambda path: path.symlink_to("/dev/zero"))),
    ("link to itself", lambda file: _replace(file, lambda path: path.symlink_to(path))),
    ("link to nothing", lambda file: _replace(file, lambda path: path.symlink_to("nothing"))),
    ("empty", lambda file: file.write_bytes(b"")),
    ("1 GB of zeros", lambda file: os.truncate(file, 2**30)),
    ("its folder is a file", lambda file: (shutil.rmtree(file.parent), file.parent.write_text("{}"))),
)

_TEXTS = (
    ("[]", lambda file: file.write_text("[]")),
    ("null", lambda file: file.write_text("null")),
    ("{}", lambda file: file.write_text("{}")),
    ("half", lambda file: file.write_text(file.read_text()[: file.stat().st_size // 2])),
    ("twice", lambda file: file.write_text(2 * file.read_text())),
    ("UTF-16", lambda file: file.write_text(file.read_text(), encoding="utf-16")),
    ("byte order mark", lambda file: file.write_text(file.read_text(), encoding="utf-8-sig")),
    ("no UTF-8", lambda file: file.write_bytes(b'{"a": "\xe9"}')),
    ("NUL", lambda file: file.write_bytes(b"\0" * 100)),
    ("lists 100,000 deep", lambda file: file.write_text("[" * 100_000 + "]" * 100_000)),
    ("objects 100,000 deep", lambda file: file.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)),
    ("a key twice", lambda file: file.write_text('{"a": 1, "a": 1, ' + file.read_text().lstrip()[1:])),
    ("100,000 keys", lambda file: file.write_text(json.dumps({f"{n}": n for n in range(90_000)}))),
    ("5,000 digits", lambda file: file.write_text(f'{{"in_channels": {"9" * 5000}, {file.read_text().lstrip()[1:]}')),
    ("another class", lambda file: set_value(file, "_class_name", ["pipeline", "ColorizationPipeline"])),
    ("remote code", lambda file: set_value(file, "auto_map", {"AutoModel": "evil.Evil"})),
    ("quantized", lambda file: set_value(file, "quantization_config", {"quant_method": "bitsandbytes"})),
)


def _with_header(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


def _with_tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        tensors = load_file(file)
        change(tensors)
        save_file({name: value.clone() for name, value in tensors.items()}, file, metadata={"format": "pt"})

    return damage


def _first(values: dict) -> str:
    return min(name for name in values if name.endswith("weight") and name != "__metadata__")


def _fill(value: float) -> Callable[[dict], object]:
    return lambda tensors: tensors[_first(tensors)].view(-1)[-1:].fill_(value)


def _sparse(file: Path) -> None:
    """A header that announces 10 GB, and a file that is that long and takes no room on the disk."""
    text = json.dumps({"a": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10**10]}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(file, 8 + len(text) + 10**10)


_HEADERS = (
    ("header of 2^63 bytes", lambda file: file.write_bytes(struct.pack("<Q", 2**63) + file.read_bytes()[8:])),
    ("header of 0 bytes", lambda file: file.write_bytes(struct.pack("<Q", 0) + file.read_bytes()[8:])),
    ("header of 90 MB", lambda file: (file.write_bytes(struct.pack("<Q", 9 * 10**7)), os.truncate(file, 10**8))),
    (
        "header is no JSON",
        lambda file: file.write_bytes(file.read_bytes()[:8] + b"\xff" * 1000 + file.read_bytes()[1008:]),
    ),
    ("other shape", _with_header(lambda header: header[_first(header)]["shape"].append(1))),
    ("negative shape", _with_header(lambda header: header[_first(header)].update(shape=[-1, -1]))),
    ("huge shape", _with_header(lambda header: header[_first(header)].update(shape=[2**40, 2**40]))),
    ("offsets beyond the end", _with_header(lambda header: header[_first(header)].update(data_offsets=[0, 10**12]))),
    ("offsets that overlap", _with_header(lambda header: header[_first(header)].update(data_offsets=[0, 4]))),
    ("no such type", _with_header(lambda header: header[_first(header)].update(dtype="X99"))),
    ("a list for a tensor", _with_header(lambda header: header.update({_first(header): []}))),
    ("10 GB of one tensor", _sparse),
    ("a tensor less", _with_tensors(lambda tensors: tensors.pop(_first(tensors)))),
    ("a tensor more", _with_tensors(lambda tensors: tensors.update(more=torch.zeros(1)))),
    ("a tensor of another name", _with_tensors(lambda tensors: tensors.update(x=tensors.pop(_first(tensors))))),
    ("a tensor transposed", _with_tensors(lambda t: t.update({_first(t): t[_first(t)].unsqueeze(0)}))),
    ("a tensor of integers", _with_tensors(lambda t: t.update({_first(t): t[_first(t)].long()}))),
    ("NaN", _with_tensors(_fill(float("nan")))),
    ("infinity", _with_tensors(_fill(float("-inf")))),
    ("pickled", lambda file: (torch.save({}, file.with_name("pytorch_model.bin")), file.unlink())),
    ("parts elsewhere", lambda f: f.with_name(f"{f.name}.index.json").write_text('{"weight_map": {"a": "../../x"}}')),
    (
        "an adapter",
        lambda file: file.with_name("adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}'),
    ),
)
