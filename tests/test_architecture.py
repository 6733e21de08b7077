"""The layout of the package, held against its own imports."""

import ast
import sys
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
    "hint_propagation": {"color", "hints", "likeness"},
    "hint_regression": {"color", "hints", "likeness"},
    "check_inputs": set(),
    "denoising": {"image_processor"},
    "doubt": {"color"},
    "pipeline_output": set(),
    "likeness": {"hints", "image_encoder"},
    "reference_matching": {"color", "likeness"},
    "model_bounds": set(),
    "model_folder": {"model_bounds"},
    "model_trial": {"model_bounds", "model_folder"},
    "motion": set(),
    "scenes": {"motion"},
    "brush": {"hint_propagation", "hints", "likeness", "color", "motion", "scenes"},
    "video": {"brush", "motion", "scenes"},
    "pipeline": {
        "brush",
        "check_inputs",
        "color",
        "denoising",
        "doubt",
        "hint_propagation",
        "hint_regression",
        "hints",
        "image_encoder",
        "image_processor",
        "likeness",
        "model_bounds",
        "model_folder",
        "model_trial",
        "motion",
        "pipeline_output",
        "reference_matching",
        "scenes",
        "video",
    },  # fmt: skip
    "likelihood": {"color", "image_processor", "pipeline"},
    "metrics": {"color", "doubt"},
    "hub": {"model_folder", "model_trial", "pipeline"},
    "__init__": set(),
}

# The same for the rooms of the apps, from what is imported first to what people start. The light ones, which answer
# before PyTorch, NumPy or Pillow is there, import others only where they need them.
LIGHT = {
    "__init__": set(),
    "formats": set(),
    "refused": set(),
    "workplace": set(),
    "plan": {"formats", "reading", "refused", "workplace"},
    "journal": {"workplace"},
    "tasks": {"journal", "plan"},
    "batch": {"journal", "plan", "tasks"},
    "report": {"formats", "journal", "photo", "plan", "workplace"},
    "console": {"batch", "engines", "journal", "plan", "report", "tasks", "workplace"},
    "info": {"gray", "photo", "provenance", "reading"},
    "restore": {"color_space", "gray", "photo", "provenance", "reading", "writing"},
    "film_hints": {"photo", "wishes"},
    "video": {"film_hints", "film_job", "film_preview", "film_source", "film_target", "tasks", "wishes", "workers"},
    "wishes": {"photo", "reading", "tasks"},
    "cli": {"batch", "console", "formats", "info", "plan", "restore", "tasks", "video", "wishes"},
}
FORMATS = {"boxed_file", "jpeg_file", "png_file", "tiff_file"}
HEAVY = {
    "exif": set(),
    "iptc": set(),
    "color_space": set(),
    "xmp": {"exif"},
    "photo": {"exif"},
    "provenance": {"xmp"},
    "gray": {"photo", "provenance"},
    "boxed_file": {"photo"},
    "jpeg_file": {"iptc", "photo"},
    "png_file": {"color_space", "iptc", "photo"},
    "tiff_file": {"color_space", "exif", "photo"},
    "reading": {"color_space", "exif", "formats", "photo", "refused", "xmp", *FORMATS},
    "writing": {"exif", "photo", "provenance", "workplace", "jpeg_file", "png_file", "tiff_file"},
    "doubt_picture": {"photo"},
    "reference": {"color_space", "photo", "reading"},
    "same_look": {"color_space"},
    "painting": {"color_space", "gray", "photo", "provenance", "same_look"},
    "workers": {
        "doubt_picture",
        "formats",
        "gray",
        "journal",
        "painting",
        "photo",
        "plan",
        "provenance",
        "reading",
        "reference",
        "tasks",
        "wishes",
        "workplace",
        "writing",
    },  # fmt: skip
    "engines": {"journal", "tasks", "workers"},
    "film_planes": set(),
    "film_source": {"film_planes"},
    "film_target": {"film_planes", "film_source"},
    "film_job": {"film_hints", "film_planes", "film_source", "film_target", "workplace"},
    "film_preview": {"film_planes", "film_source"},
}

# The page, a package of its own, which nothing else imports: what each room may import of it, and of the others.
WEB = {
    "__init__": set(),
    "question": set(),
    "session": {
        "question",
        "color_space",
        "doubt_picture",
        "gray",
        "painting",
        "photo",
        "provenance",
        "reading",
        "same_look",
        "workers",
        "writing",
    },  # fmt: skip
    "painters": {"session", "question", "painting", "photo", "provenance", "workers"},
    "studio": {"painters", "session", "question", "doubt_picture", "photo", "reading", "reference", "workers"},
    "page": {"studio"},
    "server": {"page", "studio", "workplace"},
    "command": {"server", "tasks", "workers"},
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


@pytest.mark.parametrize(
    "path", sorted((ROOT / "colorize_pipeline" / "apps").glob("*.py")), ids=lambda path: path.stem
)
def test_a_room_of_the_apps_imports_only_what_the_design_allows(path):
    allowed = LIGHT | HEAVY
    assert path.stem in allowed, f"{path.name} is a new room: give it a place in the design and in this test"
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    assert {room for node in imports for room in _apps_of(node)} <= allowed[path.stem]
    if path.stem in LIGHT:
        first = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in first if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in first if isinstance(node, ast.ImportFrom) and not _apps_of(node)}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"colorize_pipeline", "typer"}
        assert {room for node in first for room in _apps_of(node)} <= LIGHT.keys()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "colorize_pipeline" / "apps" / "web").glob("*.py")), ids=lambda p: p.stem
)
def test_a_room_of_the_page_imports_only_what_the_design_allows(path):
    assert path.stem in WEB, f"{path.name} is a new room: give it a place in the design and in this test"
    tree = ast.parse(path.read_text())
    libraries = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    libraries |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    assert {room for node in ast.walk(tree) for room in _apps_of(node)} <= WEB[path.stem]
    assert not {"gradio", "starlette"} & libraries or path.stem in ("page", "server")


def _apps_of(node: ast.stmt) -> set[str]:
    """Names of the rooms of the apps that a statement imports; of the page those in it."""
    if not isinstance(node, ast.ImportFrom):
        return set()
    if node.module == "colorize_pipeline.apps":
        return {alias.name for alias in node.names}
    parts = (node.module or "").split(".")
    return {parts[-1]} if parts[:2] == ["colorize_pipeline", "apps"] and len(parts) > 2 else set()


def test_no_room_of_the_apps_knows_two_formats_but_reading_and_writing():
    for room, allowed in (LIGHT | HEAVY).items():
        assert len((allowed | {room}) & FORMATS) <= 1 or room in ("reading", "writing")


def test_nothing_imports_torchvision():
    for path in [*ROOT.glob("colorize_pipeline/**/*.py"), *ROOT.glob("train/**/*.py"), *ROOT.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torchvision" for name in names), path
