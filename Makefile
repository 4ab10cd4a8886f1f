# make lab: set up, open the notebooks in JupyterLab.   make book: set up, run the quick rows, build the site.
# make course: exercises and labs.   make handout: one zip of them with the library, for a class.   make slides, make pdf, make zip: lectures, the printed book, the packed site; each makes the book first.
# make test: set up, run the quick tests (minutes).   make test-all: all tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: lab book course handout slides pdf zip test test-all study serve lint clean ready

# the kernel is this .venv's own, whatever others the user has; LAB="--no-browser --port 9000" passes options on
# in a handout the student's notebooks
lab: FIRST = $(if $(wildcard course/student),course/student,notebooks)
lab: .venv/lab
	@$(STARTS)
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m jupyterlab --ServerApp.root_dir='$(CURDIR)' \
		--LabApp.default_url=/lab/tree/$(FIRST) $(LAB)

book: ready
	$(BIN)/python -m dabook book

course: ready ## exercises and labs, a student's edition and an instructor's: OUT=DIR for another folder than _build/course
	$(BIN)/python -m dabook course $(if $(OUT),--out '$(OUT)')

handout: ready ## one zip for a class: the library and the student's notebooks, without solutions
	$(BIN)/python -m dabook handout

slides pdf zip: book ## the lectures with the book's figures, the book as one PDF (needs Chromium), the site as one zip
	$(BIN)/python -m dabook $@

# files are dealt to the two workers in the order that tests/conftest.py gives them: longest first; compiled code is
# kept, whatever the environment says: each worker and each process that a test starts would compile it all again
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --jaxtyping-packages=dalib,beartype.beartype

test: ready
	$(PYTEST)

test-all: ready ## and what takes long: every question, parity at every size, certificates, jobs side by side
	$(PYTEST) -m "not slow"
	$(PYTEST) -m slow

study: ready ## every row of experiments.yaml that has no fresh record: from nothing, some 45 hours of one core
	for name in $$($(BIN)/python -c 'from dabook.runs.experiments import experiments; print(*experiments())'); do \
		$(BIN)/python -m dabook run $$name --profile study || exit 1; done

serve: book
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

lint: ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell book course notebooks README.md CHANGELOG.md dalib dabook data/README.md

clean:
	rm -rf _build

ready: .venv/installed
	@$(STARTS)

STARTS = $(BIN)/python -c '' 2>/dev/null || \
	{ echo "$(BIN)/python does not start; was its Python removed? Delete .venv and call make again."; exit 1; }

define CREATE
@command -v $(PYTHON) >/dev/null || \
	{ echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name yours: make PYTHON=python3.12 ..."; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	{ echo "$(PYTHON) has no venv. Install it (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=python3.12 ..."; exit 1; }
$(PYTHON) -m venv .venv
endef
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

# everything; what JupyterLab needs is part of it
.venv/installed: pyproject.toml constraints.txt
	$(CREATE)
	$(INSTALL) '.[dev]'
	touch $@ .venv/lab

# what a reader needs who opens the notebooks
.venv/lab: pyproject.toml constraints.txt
	$(CREATE)
	$(INSTALL) '.[lab]'
	touch $@
