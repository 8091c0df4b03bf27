"""The house's plan, as far as a machine can check it: who may import whom, and what the README promises."""

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
    "cli": {
        *("model", "optim", "tokenizer", "tasks", "data", "inference", "exchange", "evaluation", "training", "serving")
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


def written_commands() -> list[str]:
    """The commands in the README and in the pages of docs/, one line each."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [b for page in pages for b in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line.split("  #")[0].strip() for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def fit_options(line: str) -> list[str] | None:
    """The options of `fit` in a command, however it is started; None if it is another one."""
    words = line.split()
    if words[:1] == ["torchrun"]:
        words = ["python", *words[words.index("cli.py") :]]
    if words[:2] == ["sbatch", "configs/cluster/slurm.sh"]:
        words = ["python", "cli.py", "fit", *words[2:]]
    return words[3:] if words[:3] == ["python", "cli.py", "fit"] else None


def test_the_commands_in_readme_and_docs_exist() -> None:
    from nanochat.cli.main import COMMANDS

    commands = written_commands()
    assert sum(line.startswith("python cli.py fit") for line in commands) >= 3
    assert sum(line.startswith("torchrun") for line in commands) >= 2
    makefile = (ROOT / "Makefile").read_text()
    for line in commands:
        words = line.split()
        if words[0] == "make":
            assert re.search(rf"^[\w -]*\b{words[1]}\b[\w -]*:", makefile, re.MULTILINE), line
        if words[:2] == ["python", "cli.py"] and not words[2].startswith("-"):
            assert words[2] in COMMANDS, line
        for word in words:
            if word.endswith((".yaml", ".sh")):
                assert (ROOT / word.split("=")[-1]).is_file(), line


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("line", [line for line in written_commands() if fit_options(line) is not None])
def test_the_options_in_readme_and_docs_can_be_parsed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    from nanochat.cli.training import NanochatCLI

    if "your-text" in line:
        line = line.replace("--data.corpus=path/to/your-text", "")
    with pytest.raises(SystemExit) as end:
        NanochatCLI(["fit", *(fit_options(line) or ()), "--print_config"])
    assert end.value.code == 0
    assert "max_steps" in capsys.readouterr().out


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
    assert set(config["model"]) <= {"ngrams", "ngram_slots"} | tried_elsewhere  # the rest follows from the depth
    assert resolve_shape(depth).width == width
    data = TextDataModule(**config["data"])
    assert (data.vocab_size, data.context) == (vocab_size, context)
    assert data.micro_steps(1) >= 1
    if tier == "full":
        assert [data.micro_steps(gpus) for gpus in (1, 2, 4, 8)] == [8, 4, 2, 1]
