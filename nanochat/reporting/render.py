"""The report card as a Markdown page and as a short text for the terminal."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import jinja2

from nanochat.reporting import score_tables, tables
from nanochat.reporting.prompt_samples import MAX_TOKENS
from nanochat.reporting.published_scores import ABOUT, MODEL
from nanochat.reporting.schema import ReportCard
from nanochat.reporting.tables import DASH, Table
from nanochat.text_table import format_table
from nanochat.training.console import size
from nanochat.wording import one_line

TEMPLATE = "report.md.jinja"
# Characters with a meaning in Markdown; _ only at the edge of a word, where it could start or end emphasis.
SPECIAL = re.compile(r"([\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_]))")


def render_markdown(card: ReportCard) -> str:
    """The page, rendered with :data:`TEMPLATE` in this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"escape": escape, "line": one_line, "fenced": fenced, "table": markdown_table}
    text = environment.get_template(TEMPLATE).render(
        card=card,
        tables=tables,
        scores=score_tables,
        heading=heading(card),
        notes=notes(card),
        report_environment=report_environment(card),
        model=MODEL,
        about=ABOUT,
        max_tokens=MAX_TOKENS,
        dash=DASH,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def heading(card: ReportCard) -> str:
    """The model's size: "1,234,567 parameters, depth 4, a vocabulary of 512"."""
    parameters = [n for stage in card["stages"] if (n := stage["figures"]["parameters"]) is not None]
    depths = [depth for stage in card["stages"] if (depth := _setting(stage["config"], "model", "depth")) is not None]
    facts = [f"{parameters[-1]:,} parameters" if parameters else "", f"depth {depths[-1]}" if depths else ""]
    facts.append(f"a vocabulary of {card['tokenizer']['vocab_size']:,}" if card["tokenizer"] is not None else "")
    return ", ".join(filter(None, facts)) or "a model of unknown size"


def _setting(config: dict[str, object], section: str, name: str) -> object:
    settings = config.get(section)
    return settings.get(name) if isinstance(settings, dict) else None


def notes(card: ReportCard) -> list[str]:
    """Remarks about the stages that their figures do not show."""
    remarks = []
    for stage in card["stages"]:
        label = stage["label"]
        remarks += [f"{label}: {problem}" for problem in stage["problems"]]
        if stage["by_name"]:
            remarks.append(f"{label} does not record its initial weights: its place was inferred from the runs' names.")
        if stage["state"] == "training":
            remarks.append(f"{label} seems to be still training: its figures are as of {stage['updated'][:16]}.")
    without_code = [stage["label"] for stage in card["stages"] if not stage["code"]]
    if without_code:
        remarks.append(f"{' and '.join(without_code)}: the summary does not record the commit of the code.")
    devices = {stage["device"] for stage in card["stages"] if stage["device"] is not None}
    if len(devices) > 1:
        remarks.append("The stages ran on different devices: their times are not comparable.")
    return remarks


def report_environment(card: ReportCard) -> Table:
    """The machine and the software that generated the report."""
    machine, code = card["machine"], card["code"]
    rows = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", size(machine["memory_bytes"])],
        ["GPUs", ", ".join(machine["gpus"]) or "none"],
        ["system", machine["system"]],
        *([name, version] for name, version in card["versions"].items()),
        ["nanochat", f"{code['version'] or 'not installed'}, commit: {tables.format_commit(code)}"],
    ]
    return Table(["", ""], rows, numbers=False)


# ------------------------------------------------------------------------------------------------------- Markdown


def markdown_table(table: Table) -> str:
    """A table in Markdown, with escaped cells."""
    rule = ["---", *["---:" if table.numbers else "---"] * (len(table.header) - 1)]
    rows = [[escape(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])) + "\n"


def escape(text: object) -> str:
    """A text on one line with Markdown's special characters escaped."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def fenced(text: str) -> str:
    """A text as a fenced code block, with a fence longer than any run of backticks in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip("\n")
    return f"{fence}text\n{shown}\n{fence}"


# ------------------------------------------------------------------------------------------------------- terminal


def render_text(card: ReportCard, width: int = 80) -> str:
    """A short summary for the terminal; only commands are longer than ``width``."""
    table = tables.summary(card)
    shown = format_table((table.header, *table.rows), right=range(1, len(table.header))).replace(DASH, "-")
    lines = [f"Report card of {one_line(card['name'])}: {one_line(heading(card))}", "", shown]
    if any(cell.endswith("*") for row in table.rows for cell in row):
        lines.append("* incomplete: not all tasks, items or stages")
    if card["missing"]:
        lines += ["", "Missing, and how to add it:"]
    for item in card["missing"]:
        text = f"{one_line(item['what'])}: {one_line(item['why'])}"
        lines += textwrap.wrap(text, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        if item["command"] is not None:
            lines.append(f"  {one_line(item['command'])}")
    return "\n".join(lines)
