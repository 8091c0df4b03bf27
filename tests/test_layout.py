"""The house's plan, as far as a machine can check it: who may import whom, what is pinned, and the tiers."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Modules that import nothing else of the project.
BELOW_ALL = {"cache", "cgroups", "options", "runs", "text_table", "virtualenv", "wording"}
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
}
MAY_IMPORT["cli"] = {*MAY_IMPORT}  # imports all folders; none imports it
# The folders of a part, each of which may import those before it; "." are the files beside the folders.
LAYERS = {
    "data": ["corpus", "tokens", "conversations", "."],
    "training": [".", "checkpoint", "callbacks", "budget"],
}


def test_every_part_is_a_package_that_says_what_it_is() -> None:
    folders = {path.parent for path in (ROOT / "nanochat").rglob("*.py")}
    assert {path.name for path in folders if path.parent == ROOT / "nanochat"} == set(MAY_IMPORT)
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def imported(path: Path) -> Iterator[str]:
    """The names of this project's that a file imports: of modules, and of what is in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.startswith("nanochat."))


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part: str) -> None:
    for path in (ROOT / "nanochat" / part).rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[1] not in {*MAY_IMPORT} - MAY_IMPORT[part] - {part}, f"{path.name} imports {name}"


@pytest.mark.parametrize("part", LAYERS)
def test_folders_of_a_part_import_one_way(part: str) -> None:
    root, layers = ROOT / "nanochat" / part, LAYERS[part]
    assert {path.parent.name for path in root.glob("*/*.py")} == {*layers} - {"."}
    for path in root.rglob("*.py"):
        above = {*layers[layers.index(path.relative_to(root).parts[0] if path.parent != root else ".") + 1 :]}
        for name in imported(path):
            if name.startswith(f"nanochat.{part}."):
                folder = name.split(".")[2]
                layer = folder if folder in layers else "."
                assert layer not in above, f"{path.name} imports {name}"


@pytest.mark.parametrize("module", sorted(BELOW_ALL))
def test_what_is_below_all_knows_nothing_of_the_project(module: str) -> None:
    assert {name.split(".")[1] for name in imported(ROOT / "nanochat" / f"{module}.py")} <= BELOW_ALL


def test_no_files_import_each_other_in_a_circle() -> None:
    paths = [path for path in (ROOT / "nanochat").rglob("*.py") if path.name != "__init__.py"]
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    graph = {}
    for module, path in files.items():
        names = {part for name in imported(path) for part in (name, name.rpartition(".")[0])}
        graph[module] = names & set(files)
    assert sum(map(len, graph.values())) > len(files)
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_model_and_optimizer_do_not_import_lightning() -> None:
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
def test_tier_shapes(tier: str) -> None:
    import yaml

    from nanochat.data.text_data import TextDataModule
    from nanochat.model import GPTConfig

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
    assert set(config["model"]) <= tried_elsewhere  # the rest follows from the depth
    assert GPTConfig.from_options(depth, vocab_size, context).n_embd == width
    data = TextDataModule(**config["data"])
    assert (data.vocab_size, data.context) == (vocab_size, context)
    assert data.micro_steps(1) >= 1
    if tier == "full":
        assert [data.micro_steps(gpus) for gpus in (1, 2, 4, 8, 16)] == [16, 8, 4, 2, 1]
