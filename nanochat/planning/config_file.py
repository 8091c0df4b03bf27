"""Writes a proposal as a commented YAML file for ``fit --config``."""

from __future__ import annotations

from nanochat.optim.learning_rates import default_learning_rates, default_muon_every
from nanochat.planning.planner import VAL_TOKENS, VALIDATIONS, Proposal
from nanochat.wording import plural

TEMPLATE = """\
# About {duration} on {machine}: {tokens:,} tokens.
# Forecast of val/bpb: {bpb:.3f} (90 % interval: {low:.3f} to {high:.3f}).
#   {program} fit --config {path}
# Written by `{program} plan`. Options that are not listed have their defaults.

name: {name}  # the run is written to lightning_logs/{name}/version_N

model:
  depth: {depth}  # {depth} blocks; the width is 64 x {depth} = {width}, with {heads} heads of 64
  # default learning rates for {steps:,} steps; delete these lines if you change the time or the size
  matrix_lr: {matrix_lr:.4g}
  embedding_lr: {embedding_lr:.4g}
  head_lr: {head_lr:.4g}

data:
  corpus: {corpus}
  vocab_size: {vocab_size}  # a larger vocabulary has longer tokens: more text per token, but more work per token
  context: 512  # the maximum length of a text, in tokens
  row_length: {row_length}  # tokens in a training row
  batch_size: {batch_size}  # rows in a micro-step; lower it if memory runs out, the result stays the same
  tokens_per_step: {tokens_per_step}  # tokens per optimizer step
  val_tokens: {val_tokens}  # held-out tokens scored in each validation; all of them are scored at the end
  validations: {validations}

plan:
  minutes: {minutes:g}  # about {steps:,} steps fit into this time; --trainer.max_steps={steps} sets the number instead
{trainer}"""


def config_text(
    proposal: Proposal, minutes: float, name: str, path: str, corpus: str, machine: str, accelerator: str, program: str
) -> str:
    """The content of the file.

    Args:
        proposal: the model to train.
        minutes: duration of the run.
        name: name of the run.
        path: path of the file.
        corpus: as --data.corpus.
        machine: description of the machine.
        accelerator: "cpu", "cuda" or "mps"; "cpu" is the default and is not written.
        program: how the user runs the command line.
    """
    candidate = proposal.candidate
    every = default_muon_every(candidate.tokens_per_step)
    rates = default_learning_rates(candidate.width, candidate.tokens_per_step, proposal.steps, every)
    trainer = "" if accelerator == "cpu" else f"\ntrainer:\n  accelerator: {accelerator}\n  devices: 1\n"
    return TEMPLATE.format(
        tokens=proposal.tokens,
        minutes=minutes,
        duration=plural(minutes, "minute"),
        machine=machine,
        bpb=proposal.forecast.value,
        low=proposal.forecast.low,
        high=proposal.forecast.high,
        program=program,
        path=path,
        name=name,
        depth=candidate.depth,
        width=candidate.width,
        heads=candidate.depth,
        steps=proposal.steps,
        matrix_lr=rates.matrices,
        embedding_lr=rates.embedding,
        head_lr=rates.head,
        corpus=corpus,
        vocab_size=candidate.vocab_size,
        row_length=candidate.row_length,
        batch_size=candidate.batch_size,
        tokens_per_step=candidate.tokens_per_step,
        val_tokens=VAL_TOKENS,
        validations=VALIDATIONS,
        trainer=trainer,
    )
