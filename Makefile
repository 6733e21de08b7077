# Both commands make a virtual environment with the locked versions first; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin
SAMPLE = $(shell $(BIN)/python -c "from pathlib import Path; import skimage; print(Path(skimage.__file__).parent / 'data' / 'camera.png')")

.PHONY: demo test quality style

demo: .venv/installed
	$(BIN)/colorize "$(SAMPLE)" --output demo --seed 5 --overwrite --compare
	@echo "Open demo/camera.color.png, or demo/camera.compare.jpg with the gray photo beside it."

# Two workers, a file of tests at a time; each keeps to one core (tests/conftest.py).
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

quality: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
