"""The house's plan, as far as a machine can check it: who may import whom, what is pinned, and the tiers."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW_ALL = {"cache", "runs"}  # modules that know nothing of the project
# Each part of the package with what it may import besides itself; imports go one way only.
MAY_IMPORT = {
    "model": set(),
    "optim": set(),
    "tokenizer": set(),
    "tasks": {"tokenizer"},
    "data": {"model", "tokenizer", "tasks"},
    "inference": {"model", "tokenizer"},
    "exchange": {"model", "tokenizer"},
    "evaluation": {"model", "tokenizer", "tasks", "data", "inference"},
    "training": {"model", "optim", "tokenizer", "tasks", "data", "inference", "evaluation"},
    "serving": {"model", "tokenizer", "inference", "training"},
    "analysis": {"model", "optim", "tokenizer", "tasks", "data", "inference", "evaluation", "training", "serving"},
    "doctor": set(),
    "housekeeping": {"training"},
    "sweeping": {"analysis", "training"},
    "reporting": {"tokenizer", "inference", "evaluation", "training", "serving"},
    "tracing": {"model", "optim", "tokenizer", "data", "inference", "training", "serving"},
    "planning": {"optim", "data", "training"},
    "cli": {
        *("tracing", "planning"),
        "reporting",
        *("doctor", "housekeeping", "sweeping", "analysis"),
        *("model", "optim", "tokenizer", "tasks", "data", "inference", "exchange", "evaluation", "training", "serving"),
    },
}


@pytest.mark.parametrize("part", sorted(p.name for p in (ROOT / "nanochat").iterdir() if (p / "__init__.py").exists()))
def test_imports_go_one_way(part: str) -> None:
    for path in (ROOT / "nanochat" / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name and name.startswith("nanochat."):
                    assert name.split(".")[1] in MAY_IMPORT[part] | {part, *BELOW_ALL}, f"{path.name} imports {name}"


def test_the_model_and_the_optimizer_know_nothing_of_lightning() -> None:
    for part in ("model", "optim", "tokenizer"):
        for path in (ROOT / "nanochat" / part).rglob("*.py"):
            assert not re.search(r"^(import|from) (lightning|torchmetrics)", path.read_text(), re.MULTILINE), path


def test_every_version_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    assert all(re.match(r"[\w.-]+==[\w.]+( ; .*)?$", line) for line in lines)
    pinned = {re.split(r"==", line)[0].lower().replace("_", "-") for line in lines}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = {name.lower() for name in re.findall(r'^    "([A-Za-z_-]+)[\[><=]', project, re.MULTILINE)}
    assert len(wanted) > 10
    assert wanted <= pinned


@pytest.mark.parametrize("tier", ["tiny", "small", "medium", "large", "full"])
def test_every_tier_has_its_shape_and_leaves_the_width_to_the_dial(tier: str) -> None:
    import yaml

    from nanochat.data.text import TextDataModule
    from nanochat.model import resolve_shape

    depth, width, vocab_size, context = {
        "tiny": (4, 256, 512, 512),
        "small": (6, 384, 2048, 512),
        "medium": (8, 512, 4096, 1024),
        "large": (12, 768, 8192, 1024),
        "full": (20, 1280, 65_536, 2048),
    }[tier]
    config = yaml.safe_load((ROOT / "configs" / f"{tier}.yaml").read_text())
    assert config["name"] == tier
    assert config["model"].pop("depth") == depth
    tried_elsewhere = {"matrix_lr", "muon_band"} if tier == "full" else set()  # by nanochat, at this size
    assert (
        set(config["model"]) <= {"ngrams", "ngram_slots", "predecessors"} | tried_elsewhere
    )  # the rest follows from the depth
    assert resolve_shape(depth).width == width
    data = TextDataModule(**config["data"])
    assert (data.vocab_size, data.context) == (vocab_size, context)
    assert data.micro_steps(1) >= 1
    if tier == "full":
        assert [data.micro_steps(gpus) for gpus in (1, 2, 4, 8)] == [8, 4, 2, 1]
