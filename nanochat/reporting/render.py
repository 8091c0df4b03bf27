"""The card as a page of Markdown, and as a few lines for the terminal."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import jinja2

from nanochat.grid import grid
from nanochat.reporting import score_tables, tables
from nanochat.reporting.prompt_samples import MAX_TOKENS
from nanochat.reporting.published_scores import ABOUT, MODEL
from nanochat.reporting.schema import ReportCard
from nanochat.reporting.tables import DASH, Table
from nanochat.training.console import size
from nanochat.wording import one_line

TEMPLATE = "report.md.jinja"
# what Markdown would take for more than it is; _ only where it could begin or end anything
SPECIAL = re.compile(r"([\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_]))")


def render_markdown(card: ReportCard) -> str:
    """The page, from the template beside this file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"plain": plain, "line": one_line, "fenced": fenced, "table": markdown_table}
    text = environment.get_template(TEMPLATE).render(
        card=card,
        tables=tables,
        scores=score_tables,
        heading=heading(card),
        notes=notes(card),
        here=here(card),
        model=MODEL,
        about=ABOUT,
        max_tokens=MAX_TOKENS,
        dash=DASH,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def heading(card: ReportCard) -> str:
    """What model it is."""
    parameters = [n for stage in card["stages"] if (n := stage["figures"]["parameters"]) is not None]
    depths = [depth for stage in card["stages"] if (depth := _setting(stage["config"], "model", "depth")) is not None]
    facts = [f"{parameters[-1]:,} parameters" if parameters else "", f"depth {depths[-1]}" if depths else ""]
    facts.append(f"a vocabulary of {card['tokenizer']['vocab_size']:,}" if card["tokenizer"] is not None else "")
    return ", ".join(filter(None, facts)) or "a model of unknown size"


def _setting(config: dict[str, object], part: str, name: str) -> object:
    settings = config.get(part)
    return settings.get(name) if isinstance(settings, dict) else None


def notes(card: ReportCard) -> list[str]:
    """What is to be said of the stages besides their figures."""
    said = []
    for stage in card["stages"]:
        said += [f"{stage['label']}: {problem}" for problem in stage["problems"]]
        if stage["by_name"]:
            said.append(
                f"{stage['label']} does not say what it began with: its place here follows from its name alone."
            )
        if stage["state"] == "training":
            said.append(
                f"{stage['label']} seems to be training still: its figures are those of {stage['updated'][:16]}."
            )
    silent = [stage["label"] for stage in card["stages"] if not stage["code"]]
    if silent:
        said.append(f"{' and '.join(silent)}: the summary does not say which state of the code it was trained with.")
    devices = {stage["device"] for stage in card["stages"] if stage["device"] is not None}
    if len(devices) > 1:
        said.append("The stages ran on different devices: their times do not compare.")
    return said


def here(card: ReportCard) -> Table:
    """The machine and the code that wrote the report."""
    machine, code = card["machine"], card["code"]
    rows = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", size(machine["memory_bytes"])],
        ["GPUs", ", ".join(machine["gpus"]) or "none"],
        ["system", machine["system"]],
        *([name, version] for name, version in card["versions"].items()),
        ["nanochat", f"{code['version'] or 'not installed'}, commit: {tables.commit(code)}"],
    ]
    return Table(["", ""], rows, numbers=False)


# ------------------------------------------------------------------------------------------------------- Markdown


def markdown_table(table: Table) -> str:
    """A table whose cells are shown as they are, whatever is in them."""
    rule = ["---", *["---:" if table.numbers else "---"] * (len(table.header) - 1)]
    rows = [[plain(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])) + "\n"


def plain(text: object) -> str:
    """A text on one line that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def fenced(text: str) -> str:
    """A text as a block of its own, with a fence that is not in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip("\n")
    return f"{fence}text\n{shown}\n{fence}"


# ------------------------------------------------------------------------------------------------------- terminal


def render_text(card: ReportCard, width: int = 80) -> str:
    """A short summary for the terminal."""
    table = tables.summary(card)
    shown = grid((table.header, *table.rows), right=range(1, len(table.header))).replace(DASH, "-")
    lines = [f"Report card of {one_line(card['name'])}: {one_line(heading(card))}", "", shown]
    if any(cell.endswith("*") for row in table.rows for cell in row):
        lines.append("* only in part: not all of the tasks, of their items or of the stages")
    if card["missing"]:
        lines += ["", "Missing, and how to add it:"]
    for one in card["missing"]:
        what = f"{one_line(one['what'])}: {one_line(one['why'])}"
        lines += textwrap.wrap(what, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        if one["command"] is not None:
            lines.append(f"  {one_line(one['command'])}")
    return "\n".join(lines)
