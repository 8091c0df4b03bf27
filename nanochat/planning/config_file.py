"""A proposal as a file for ``fit --config``, each line of it explained."""

from __future__ import annotations

from nanochat.optim.learning_rates import default_learning_rates, default_muon_every
from nanochat.planning.planner import VAL_TOKENS, VALIDATIONS, Proposal
from nanochat.wording import plural

TEMPLATE = """\
# About {duration} on {machine}: {tokens:,} tokens.
# Forecast of val/bpb: {bpb:.3f}, in nine of ten cases {low:.3f} to {high:.3f}.
#   {program} fit --config {path}
# Written by `{program} plan`. Whatever is not said here follows from the depth or from the machine.

name: {name}  # the run lands in lightning_logs/{name}/version_N

model:
  depth: {depth}  # {depth} blocks, so a width of 64 x {depth} = {width} and {heads} heads of 64
  # the rules' learning rates for {steps:,} steps; leave them out if you change the time or the size
  matrix_lr: {matrix_lr:.4g}
  embedding_lr: {embedding_lr:.4g}
  head_lr: {head_lr:.4g}

data:
  corpus: {corpus}
  vocab_size: {vocab_size}  # a larger one means longer tokens, so more text for each token, but more work, too
  context: 512  # tokens in a row, and the longest text that the model can take in
  row_length: {row_length}  # tokens in a row to train on
  batch_size: {batch_size}  # rows at a time; lower it when memory runs out, the result stays the same
  tokens_per_step: {tokens_per_step}  # tokens between two updates
  val_tokens: {val_tokens}  # of the held-out part that are scored on the way; all of it at the end
  validations: {validations}

plan:
  minutes: {minutes:g}  # as many steps as fit into it: about {steps:,}; --trainer.max_steps={steps} says it outright
{trainer}"""


def configuration(
    proposal: Proposal, minutes: float, name: str, path: str, corpus: str, machine: str, accelerator: str, program: str
) -> str:
    """The file's text.

    Args:
        proposal: what to train.
        minutes: that the run is to take.
        name: of the run.
        path: of the file.
        corpus: as --data.corpus.
        machine: in words.
        accelerator: "cpu", "cuda" or "mps"; all but the CPU are said in the file.
        program: how the user calls the command line.
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
        bpb=proposal.score.value,
        low=proposal.score.low,
        high=proposal.score.high,
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
