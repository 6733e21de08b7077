"""The layout of the package, held against its own imports."""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
MAX_LINES = 355

# What each room of the package may import of the others.
ALLOWED = {
    "color": set(),
    "unet": set(),
    "image_encoder": {"model_bounds"},
    "image_processor": {"color", "image_encoder"},
    "hints": {"color"},
    "check_inputs": set(),
    "denoising": {"image_processor"},
    "model_bounds": set(),
    "model_folder": {"model_bounds"},
    "model_trial": {"model_bounds", "model_folder"},
    "pipeline": {
        "check_inputs",
        "color",
        "denoising",
        "hints",
        "image_encoder",
        "image_processor",
        "model_bounds",
        "model_folder",
        "model_trial",
    },  # fmt: skip
    "likelihood": {"color", "image_processor", "pipeline"},
    "metrics": {"color"},
    "hub": {"model_folder", "model_trial", "pipeline"},
    "__init__": set(),
}


def imported_rooms(path: Path) -> set[str]:
    """Names of the modules of colorize_pipeline (and of train/) that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            rooms |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("colorize_pipeline."):
            rooms.add(node.module.split(".")[1])
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            rooms |= {module.split(".")[0] for module in modules if _is_of_training(module)}
    return rooms


def _is_of_training(module: str) -> bool:
    path = ROOT / "train" / module.replace(".", "/")
    return module != "" and (path.is_dir() or path.with_suffix(".py").exists())


@pytest.mark.parametrize("path", sorted((ROOT / "colorize_pipeline").glob("*.py")), ids=lambda path: path.stem)
def test_a_room_imports_only_what_the_design_allows(path):
    assert path.stem in ALLOWED, f"{path.name} is a new room: give it a place in the design and in this test"
    assert imported_rooms(path) <= ALLOWED[path.stem]


@pytest.mark.parametrize("path", sorted((ROOT / "train").glob("*/*.py")), ids=lambda path: path.stem)
def test_what_serves_the_training_imports_no_command_and_only_rooms_below_its_own(path):
    allowed = {
        "optimization": {"optimization"},
        "photos": {"optimization", "photos"},
        "scoring": {"optimization", "photos", "scoring"},
    }
    commands = {path.stem for path in (ROOT / "train").glob("*.py")}

    assert imported_rooms(path) & (commands | allowed.keys()) <= allowed[path.parent.name]


def test_the_pipeline_file_imports_every_sibling_the_hub_loader_must_copy():
    needed, todo = set(), {"pipeline"}
    while todo:
        room = todo.pop()
        siblings = imported_rooms(ROOT / "colorize_pipeline" / f"{room}.py")
        todo |= siblings - needed
        needed |= siblings

    assert imported_rooms(ROOT / "colorize_pipeline" / "pipeline.py") == needed


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("colorize_pipeline/**/*.py")) + sorted(ROOT.glob("train/**/*.py")), ids=str
)
def test_a_file_can_be_read_in_one_sitting(path):
    lines = path.read_text().count("\n")

    assert lines <= MAX_LINES, f"{path.name} has {lines} lines: part it"


def test_no_room_of_the_apps_knows_two_formats_but_reading_and_writing():
    formats = {"jpeg_file", "png_file", "tiff_file", "boxed_file"}
    for path in (ROOT / "colorize_pipeline" / "apps").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {alias.name for node in imports for alias in node.names if node.module == "colorize_pipeline.apps"}
        names |= {(node.module or "").rsplit(".")[-1] for node in imports}
        known = (names & formats) | ({path.stem} & formats)
        assert len(known) <= 1 or path.stem in ("reading", "writing"), f"{path.name} knows {known}"


def test_nothing_imports_torchvision():
    for path in [*ROOT.glob("colorize_pipeline/**/*.py"), *ROOT.glob("train/**/*.py"), *ROOT.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torchvision" for name in names), path
