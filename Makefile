# Everything the book needs, from an empty clone: each target creates the environment if it is missing.
# `make help` lists the targets. PYTHON chooses the interpreter: `make demo PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER := $(VENV)/.browser
# Tests run in this many processes, each on one thread: two threads on one small network mostly wait for each other.
WORKERS ?= 2
# Asked of the shell, since readers' chapters may have just been written.
NOTEBOOKS = $(shell ls notebooks/[0-9]*.ipynb notebooks/solutions/[0-9]*.ipynb)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint unit chapters lab bench quality test-browser notebooks readers class lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp is written last, so that an install which was interrupted or failed is taken up again by the next make.
$(STAMP): requirements.lock
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not found; wanted Python 3.11 or newer, for example: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("$(PYTHON) is Python %d.%d; wanted 3.11 or newer, for example: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Creating the environment in $(VENV): a minute or a few, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "Environment ready."

demo: $(STAMP) ## train a 2D teacher, distil it into one step, restore a photograph; figures in build/demo/
	$(BIN)/python -m ibmd_minimal demo

test: lint unit chapters ## lint and spelling, the library against closed forms, every notebook against its stored outputs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

unit chapters test-browser: export OMP_NUM_THREADS = 1

unit: $(STAMP)
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile

# A cell's file is otherwise a temporary one, whose name would stand in every stored warning.
chapters notebooks: export IPYKERNEL_CELL_NAME = <cell>

chapters: $(STAMP)
	$(BIN)/python -m pytest notebooks --nbval --nbval-current-env --nbval-cell-timeout=300 \
		--nbval-sanitize-with=sanitize.cfg -p no:cacheprovider -n $(WORKERS) --dist loadfile

lab: export JUPYTER_PREFER_ENV_PATH = 1
lab: $(STAMP) ## open the book in JupyterLab (LAB="--no-browser --port 8899" passes options on)
	$(BIN)/python -m jupyterlab notebooks $(LAB)

bench: $(STAMP) ## the library's cost over the bare work of the same networks, as ratios
	$(BIN)/python -m tests.benchmarks

# A Chromium of the system is taken where there is one; Playwright's own is fetched only where there is none.
$(BROWSER): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --constraint requirements.lock --editable '.[browser]'
	@command -v chromium chromium-browser google-chrome google-chrome-stable > /dev/null || $(BIN)/python -m playwright install chromium
	@touch $@

test-browser: $(BROWSER) ## move every chapter's sliders, draw and upload in JupyterLab, in headless Chromium
	$(BIN)/python -m pytest tests/test_browser.py tests/test_image_widgets_browser.py -m browser

quality: $(STAMP) ## trainings over several seeds, judged by statistics (long)
	$(BIN)/python -m pytest tests -m quality

readers: $(STAMP) ## write the readers' chapters anew where their masters have changed
	$(BIN)/python -m ibmd_minimal chapters

class: $(STAMP) ## a zip for students, without solutions: build/class/ibmd-class.zip
	$(BIN)/python -m ibmd_minimal class --out build/class/ibmd-class.zip

notebooks: readers ## run every notebook from its first cell and store it (NOTEBOOKS=notebooks/00_tour.ipynb for one)
	$(BIN)/python -m nbconvert --to notebook --execute --inplace $(NOTEBOOKS)
	$(BIN)/nbstripout --keep-output --keep-count --keep-id --extra-keys metadata.language_info.version $(NOTEBOOKS)

# Held back in the lock. torch and torchvision: the pair that the shipped checkpoints and figures were made with.
# soupsieve: from 3 on it refuses the first patch releases of Python 3.11, which some distributions still ship.
HELD := torch==2.13.0 torchvision==0.28.0 "soupsieve<3"
# What only torch's CUDA builds ask for, torch pins by itself.
FROM_TORCH := ^(nvidia|cuda|triton)

lock: ## write requirements.lock anew from the ranges of pyproject.toml
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet $(HELD) --editable '.[test]' "setuptools>=77"
	{ sed -n '/^#/p' requirements.lock; \
	  build/lock/bin/python -m pip freeze --all --exclude pip --exclude-editable \
	    | grep -Ev '$(FROM_TORCH)' | sed -E 's/\+[a-z0-9.]+$$//'; \
	  echo "appnope==1.0.0; sys_platform == 'darwin'"; } > build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock

clean: ## remove what was built and cached; the environment and trained runs stay
	rm -rf build *.egg-info .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
