"""What a sweep knows: its trials in Optuna's SQLite file, and who may take which of them on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nanochat.sweeping.process_identity import SIGN_SECONDS, lives, owner, process_of
from nanochat.sweeping.space import Axis, Setting
from nanochat.sweeping.trials import DONE, FAILED, INTERRUPTED, PRUNED, RUNNING, Trial, key_of, wanted

if TYPE_CHECKING:
    import psutil
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Handle

DATABASE, LOCK, STUDY = "sweep.db", "sweep.lock", "sweep"
Pruning = Literal["median", "halving"]
BUSY_SECONDS = 60  # that SQLite waits for another process to be done with the file
DRAWS = 50  # so often a setting is drawn, until one comes that has not been tried
FIRST_TRIALS = 3  # are never pruned: there is nothing yet to compare with
FIRST_VALIDATIONS = 1  # of a trial, at which it is never pruned: little has been learned


@dataclass
class Work:
    """A trial that this process has taken on.

    Attributes:
        trial: which one.
        begun: whether there may be something to go on from.
        process: that trains it already, since the sweep that started it was killed; None if there is none.
    """

    trial: Trial
    handle: Handle
    begun: bool = False
    process: psutil.Process | None = None
    _signed: float = field(default_factory=time.monotonic)
    _reported: int = 0

    def started(self, pid: int) -> None:
        """Notes the process that trains, so that it is found again if this one is killed."""
        self.handle.set_user_attr("process", owner(pid))

    def sign(self) -> None:
        """Gives a sign of life now and then, for processes on other machines."""
        if time.monotonic() - self._signed > SIGN_SECONDS:
            self._signed = time.monotonic()
            self.handle.set_user_attr("owner", owner())

    def report(self, values: Sequence[float]) -> None:
        """Tells Optuna all val/bpb so far. They are counted: trials of unlike steps are compared by their shares."""
        known = _frozen(self.handle).intermediate_values
        for place, value in enumerate(values, 1):
            if place > self._reported and place not in known:
                self.handle.report(value, place)
        self._reported = max(self._reported, len(values))

    def is_hopeless(self) -> bool:
        """Whether the pruner says so."""
        return self.handle.should_prune()

    def leave(self) -> None:
        """Gives the trial back, unfinished: whoever comes next goes on with it."""
        self.handle.set_user_attr("owner", None)

    def finish(
        self, status: str, value: float | None = None, seconds: float | None = None, reason: str | None = None
    ) -> Trial:
        """Says what came of it: done (with a value), failed (with a reason) or pruned."""
        from optuna.trial import TrialState

        states = {DONE: TrialState.COMPLETE, FAILED: TrialState.FAIL, PRUNED: TrialState.PRUNED}
        self.handle.set_user_attr("seconds", seconds)
        self.handle.set_user_attr("reason", reason)
        self.handle.study.tell(self.handle.number, value if status == DONE else None, state=states[status])
        return read(_frozen(self.handle))


class Storage:
    """The trials of one sweep. Several processes may use it at once, each through an object of its own.

    Args:
        folder: of the sweep, which is made if it is not there.
        axes: what is varied.
        seeds: that each setting is repeated with.
        search: how many settings are drawn; None for a grid.
        pruning: which of Optuna's pruners says what is hopeless; None for none.
        retry: whether what has failed is done once more.
    """

    def __init__(
        self,
        folder: Path,
        axes: Sequence[Axis],
        seeds: Sequence[int],
        search: int | None = None,
        pruning: Pruning | None = None,
        retry: bool = False,
    ) -> None:
        from filelock import FileLock

        self.folder, self.axes, self.seeds, self.search = folder, list(axes), list(seeds), search
        folder.mkdir(parents=True, exist_ok=True)
        # Only one process at a time looks for something to do and takes it on. A killed one's lock is free at once.
        self.lock = FileLock(folder / LOCK)
        with self.lock:
            self.study = _open(folder / DATABASE, pruning)
            self.again = {trial.number for trial in self.trials() if retry and trial.status == FAILED}

    def define(self, definition: Mapping[str, Any]) -> None:
        """Says what all trials have in common, or checks that it is what those before had.

        Args:
            definition: "kind", "options" (that are varied) and "settings" (of all trials, by their names).

        Raises:
            ValueError: if it is not.
        """
        with self.lock:
            kept = self.study.user_attrs.get("definition")
            if kept is None:
                self.study.set_user_attr("definition", dict(definition))
                return
        another = f"{self.folder} holds another sweep: give this one a --name of its own"
        if kept["kind"] != definition["kind"]:
            raise ValueError(f"{another} (that is a {kept['kind']}, and this one a {definition['kind']})")
        if sorted(kept["options"]) != sorted(definition["options"]):
            raise ValueError(f"{another} (that varies {', '.join(kept['options'])})")
        before, now = kept["settings"], definition["settings"]
        different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if different:
            said = [f"{name}={before.get(name)} instead of {now.get(name)}" for name in different[:3]]
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise ValueError(f"{another} (its trials have {', '.join(said)}{more})")

    def trials(self) -> list[Trial]:
        """All that have been begun, in their order."""
        return [read(trial) for trial in self._frozen_trials()]

    def _frozen_trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if "setting" in trial.user_attrs]

    def left(self) -> int:
        """How many trials are still to be begun."""
        pairs, draws = wanted(self.axes, self.seeds, self.search, self.trials(), self.again)
        return len(pairs) + draws * len(self.seeds)

    def claim(self) -> Work | None:
        """Takes a trial on: one that was interrupted, or the next. None if there is nothing left to take.

        Of several processes that ask at once, each gets another one.
        """
        with self.lock:
            trials = self.trials()
            for trial in trials:
                if trial.status == INTERRUPTED:
                    return self._take_over(trial)
            pairs, draws = wanted(self.axes, self.seeds, self.search, trials, self.again)
            if pairs:
                return self._begin(*pairs[0])
            return self._draw() if draws else None

    def _take_over(self, trial: Trial) -> Work:
        from optuna.trial import Trial as Handle

        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        handle = Handle(self.study, frozen._trial_id)
        handle.set_user_attr("owner", owner())
        return Work(trial, handle, begun=True, process=process_of(frozen.user_attrs.get("process")))

    def _begin(self, setting: Setting, seed: int) -> Work:
        before = next((t for t in self._frozen_trials() if key_of(read(t).setting) == key_of(setting)), None)
        if self.search is not None and before is not None:
            self.study.enqueue_trial(before.params)
            return self._note(self.study.ask(self._distributions()), setting, seed)
        return self._note(self.study.ask(), setting, seed)

    def _draw(self) -> Work | None:
        """A new setting by Optuna's sampler (TPE); None if nothing new comes, as where all have been tried."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        known = {key_of(trial.setting) for trial in self.trials()}
        for _ in range(DRAWS):
            # a sampler for each draw: processes that draw at once must not draw the same
            count = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = TPESampler(seed=self.seeds[0] + count, constant_liar=True)
            handle = self.study.ask(self._distributions())
            setting = {axis.option: axis.write(handle.params[axis.option]) for axis in self.axes}
            if key_of(setting) not in known:
                return self._note(handle, setting, self.seeds[0])
            self.study.tell(handle.number, state=TrialState.FAIL)  # without a setting: nobody sees it
        return None

    def _distributions(self) -> dict[str, Any]:
        return {axis.option: axis.distribution() for axis in self.axes}

    def _note(self, handle: Handle, setting: Setting, seed: int) -> Work:
        handle.set_user_attr("owner", owner())
        handle.set_user_attr("seed", seed)
        handle.set_user_attr("setting", setting)  # the last: a trial without it was never begun
        return Work(read(_frozen(handle)), handle)

    def is_first_to_sum_up(self) -> bool:
        """Whether nobody has yet analysed what there is now; after this, somebody has."""
        with self.lock:
            ended = [trial.number for trial in self.trials() if trial.status not in (RUNNING, INTERRUPTED)]
            first = self.study.user_attrs.get("analysed") != ended
            self.study.set_user_attr("analysed", ended)
            return first


def read(frozen: FrozenTrial) -> Trial:
    """A trial as Optuna keeps it."""
    attributes = frozen.user_attrs
    values = frozen.intermediate_values
    if frozen.state.is_finished():
        status = {"COMPLETE": DONE, "PRUNED": PRUNED}.get(frozen.state.name, FAILED)
    else:
        status = RUNNING if lives(attributes.get("owner")) else INTERRUPTED
    value = frozen.value if status == DONE else values[max(values)] if values else None
    setting, seed = dict(attributes["setting"]), int(attributes["seed"])
    return Trial(frozen.number, setting, seed, status, value, attributes.get("seconds"), attributes.get("reason"))


def _frozen(handle: Handle) -> FrozenTrial:
    return handle.study.get_trials(deepcopy=False)[handle.number]


def _open(path: Path, pruning: Pruning | None) -> Study:
    import optuna
    from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = URL.create("sqlite", database=str(path.absolute())).render_as_string()
    storage = RDBStorage(address, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
    pruner: BasePruner = NopPruner()
    if pruning == "median":
        pruner = MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=FIRST_VALIDATIONS + 1)
    elif pruning == "halving":
        pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.create_study(
        storage=storage, study_name=STUDY, direction="minimize", pruner=pruner, load_if_exists=True
    )
