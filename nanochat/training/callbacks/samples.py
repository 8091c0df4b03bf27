"""Prints and logs a text from the model after each validation."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from nanochat.inference.generate import generate
from nanochat.training.console import as_markdown, say
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of
from nanochat.wording import one_line


class Samples(Callback):
    """Continues a fixed prompt with a fixed seed, so that the texts show the progress of training.

    Args:
        prompt: the beginning of a text.
        max_tokens: number of tokens to add at most.
        temperature: 0 takes the most probable token each time; higher values give more varied texts.
    """

    def __init__(self, prompt: str = "Return a list of", max_tokens: int = 64, temperature: float = 0.7) -> None:
        self.prompt, self.max_tokens, self.temperature = prompt, max_tokens, temperature

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        assert isinstance(pl_module, LanguageModel)
        text = self.format(self.sample(trainer, pl_module))
        metrics = trainer.callback_metrics
        scores = [f"{name} {metrics[name].item():.4f}" for name in ("val/accuracy", "val/bpb") if name in metrics]
        say("  ".join([f"step {trainer.global_step:,}", *scores, abbreviate(text)]))
        if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
            trainer.logger.experiment.add_text("sample", as_markdown(text), trainer.global_step)

    def format(self, completion: str) -> str:
        """The text to print, given the model's completion of the prompt."""
        return self.prompt + completion

    def sample(self, trainer: Trainer, module: LanguageModel) -> str:
        """The model's completion of the prompt."""
        data = data_of(trainer)
        prompt = data.prompt(self.prompt)
        with trainer.precision_plugin.val_step_context():
            # build=False: do not spend training time on compiling the decoder
            ids = generate(module.gpt, prompt, self.max_tokens, self.temperature, build=False)
        end = next((index for index, token in enumerate(ids) if token in data.stop_ids), len(ids))
        return data.tokenizer.decode(ids[:end])


class Answers(Samples):
    """Asks a fixed question, so that the answers show the progress of training.

    Args:
        question: the question.
        max_tokens: longest answer.
        temperature: 0 takes the most probable token each time; higher values give more varied answers.
    """

    def __init__(
        self, question: str = "What does textwrap.dedent do?", max_tokens: int = 64, temperature: float = 0.0
    ) -> None:
        super().__init__(question, max_tokens, temperature)

    def format(self, completion: str) -> str:
        return completion


def abbreviate(text: str, length: int = 48) -> str:
    """The beginning of a text on one line, in quotes."""
    line = one_line(text)
    return f'"{line}"' if len(line) <= length else f'"{line[: length - 3]}..."'
