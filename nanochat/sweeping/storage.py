"""Stores the trials of a sweep in Optuna's SQLite database, and assigns them to processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nanochat.sweeping.process_identity import HEARTBEAT_INTERVAL, find_process, identify, is_alive
from nanochat.sweeping.space import Axis, Setting
from nanochat.sweeping.trials import (
    DONE,
    FAILED,
    INTERRUPTED,
    PRUNED,
    RUNNING,
    Trial,
    pending_trials,
    setting_key,
)

if TYPE_CHECKING:
    import psutil
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

DATABASE, LOCK, STUDY = "sweep.db", "sweep.lock", "sweep"
Pruner = Literal["median", "halving"]
SQLITE_TIMEOUT = 60  # seconds to wait for another process's lock on the database
MAX_DRAWS = 50  # draws of the sampler until it counts as exhausted, if all settings drawn have been tried
STARTUP_TRIALS = 3  # the first trials are never pruned: there is nothing to compare them with
WARMUP_VALIDATIONS = 1  # a trial is never pruned at its first validation, which predicts little


@dataclass
class ClaimedTrial:
    """A trial that this process works on.

    Attributes:
        trial: the trial.
        optuna_trial: the same trial in Optuna's storage.
        resumed: whether it was started before, so that there may be a checkpoint.
        process: its training process, if that is still running after its sweep was killed; otherwise None.
    """

    trial: Trial
    optuna_trial: OptunaTrial
    resumed: bool = False
    process: psutil.Process | None = None
    _last_heartbeat: float = field(default_factory=time.monotonic)
    _reported: int = 0

    def record_process(self, pid: int) -> None:
        """Stores the identity of the training process, to find it again if this process is killed."""
        self.optuna_trial.set_user_attr("process", identify(pid))

    def heartbeat(self) -> None:
        """Stores a heartbeat every ``HEARTBEAT_INTERVAL`` seconds, for processes on other machines."""
        if time.monotonic() - self._last_heartbeat > HEARTBEAT_INTERVAL:
            self._last_heartbeat = time.monotonic()
            self.optuna_trial.set_user_attr("owner", identify())

    def report(self, values: Sequence[float]) -> None:
        """Reports all val/bpb so far to Optuna.

        The pruner compares them by the number of the validation instead of the step: trials with different numbers of
        steps have the same number of validations.
        """
        known = _frozen(self.optuna_trial).intermediate_values
        for number, value in enumerate(values, 1):
            if number > self._reported and number not in known:
                self.optuna_trial.report(value, number)
        self._reported = max(self._reported, len(values))

    def should_prune(self) -> bool:
        """Whether the pruner considers the trial hopeless."""
        return self.optuna_trial.should_prune()

    def release(self) -> None:
        """Gives up the unfinished trial, so that another process can resume it."""
        self.optuna_trial.set_user_attr("owner", None)

    def finish(
        self, status: str, value: float | None = None, seconds: float | None = None, reason: str | None = None
    ) -> Trial:
        """Records the result: ``DONE`` (with a value), ``FAILED`` (with a reason) or ``PRUNED``."""
        from optuna.trial import TrialState

        states = {DONE: TrialState.COMPLETE, FAILED: TrialState.FAIL, PRUNED: TrialState.PRUNED}
        optuna_trial = self.optuna_trial
        optuna_trial.set_user_attr("seconds", seconds)
        optuna_trial.set_user_attr("reason", reason)
        optuna_trial.study.tell(optuna_trial.number, value if status == DONE else None, state=states[status])
        return _to_trial(_frozen(optuna_trial))


class Storage:
    """The trials of one sweep. Several processes may use it at once, each with its own instance.

    Args:
        folder: folder of the sweep; created if it does not exist.
        axes: the varied options.
        seeds: the seeds of each setting.
        search: number of settings to draw; None for a grid.
        pruner: the Optuna pruner; None for none.
        retry: whether to retry the trials that have failed.
    """

    def __init__(
        self,
        folder: Path,
        axes: Sequence[Axis],
        seeds: Sequence[int],
        search: int | None = None,
        pruner: Pruner | None = None,
        retry: bool = False,
    ) -> None:
        from filelock import FileLock

        self.folder, self.axes, self.seeds, self.search = folder, list(axes), list(seeds), search
        folder.mkdir(parents=True, exist_ok=True)
        # One process at a time claims a trial. The operating system releases the lock of a killed process.
        self.lock = FileLock(folder / LOCK)
        with self.lock:
            self.study = _open(folder / DATABASE, pruner)
            self.retry = {trial.number for trial in self.trials() if retry and trial.status == FAILED}

    def check_definition(self, definition: Mapping[str, Any]) -> None:
        """Stores the definition of a new sweep, or checks that it equals that of the existing one.

        Args:
            definition: "kind" ("grid" or "search"), "options" (the varied ones) and "settings" (of all trials, by
                option name).

        Raises:
            ValueError: if the folder has another sweep, with the difference.
        """
        with self.lock:
            stored = self.study.user_attrs.get("definition")
            if stored is None:
                self.study.set_user_attr("definition", dict(definition))
                return
        another = f"{self.folder} has another sweep: give this one another --name"
        if stored["kind"] != definition["kind"]:
            raise ValueError(f"{another} (that is a {stored['kind']}, this is a {definition['kind']})")
        if sorted(stored["options"]) != sorted(definition["options"]):
            raise ValueError(f"{another} (that varies {', '.join(stored['options'])})")
        before, now = stored["settings"], definition["settings"]
        different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if different:
            shown = [f"{name}={before.get(name)} instead of {now.get(name)}" for name in different[:3]]
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise ValueError(f"{another} (its trials have {', '.join(shown)}{more})")

    def trials(self) -> list[Trial]:
        """All trials that were started, in the order of their numbers."""
        return [_to_trial(trial) for trial in self._frozen_trials()]

    def _frozen_trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if "setting" in trial.user_attrs]

    def remaining(self) -> int:
        """Number of trials still to be started."""
        pairs, draws = pending_trials(self.axes, self.seeds, self.search, self.trials(), self.retry)
        return len(pairs) + draws * len(self.seeds)

    def claim(self) -> ClaimedTrial | None:
        """Claims an interrupted trial, or else the next new one; None if there is none.

        Concurrent processes get different trials.
        """
        with self.lock:
            trials = self.trials()
            for trial in trials:
                if trial.status == INTERRUPTED:
                    return self._resume(trial)
            pairs, draws = pending_trials(self.axes, self.seeds, self.search, trials, self.retry)
            if pairs:
                return self._start(*pairs[0])
            return self._draw() if draws else None

    def _resume(self, trial: Trial) -> ClaimedTrial:
        from optuna.trial import Trial as OptunaTrial

        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        optuna_trial = OptunaTrial(self.study, frozen._trial_id)
        optuna_trial.set_user_attr("owner", identify())
        return ClaimedTrial(trial, optuna_trial, resumed=True, process=find_process(frozen.user_attrs.get("process")))

    def _start(self, setting: Setting, seed: int) -> ClaimedTrial:
        key = setting_key(setting)
        same = next((t for t in self._frozen_trials() if setting_key(_to_trial(t).setting) == key), None)
        if self.search is not None and same is not None:
            self.study.enqueue_trial(same.params)
            return self._claim_new(self.study.ask(self._distributions()), setting, seed)
        return self._claim_new(self.study.ask(), setting, seed)

    def _draw(self) -> ClaimedTrial | None:
        """Starts a trial with a new setting from Optuna's TPE sampler; None if it draws only settings already tried."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        known = {setting_key(trial.setting) for trial in self.trials()}
        for _ in range(MAX_DRAWS):
            # a sampler with another seed for each draw, so that concurrent processes do not draw the same
            count = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = TPESampler(seed=self.seeds[0] + count, constant_liar=True)
            optuna_trial = self.study.ask(self._distributions())
            setting = {axis.option: axis.format(optuna_trial.params[axis.option]) for axis in self.axes}
            if setting_key(setting) not in known:
                return self._claim_new(optuna_trial, setting, self.seeds[0])
            self.study.tell(optuna_trial.number, state=TrialState.FAIL)  # without "setting", trials() ignores it
        return None

    def _distributions(self) -> dict[str, Any]:
        return {axis.option: axis.distribution() for axis in self.axes}

    def _claim_new(self, optuna_trial: OptunaTrial, setting: Setting, seed: int) -> ClaimedTrial:
        optuna_trial.set_user_attr("owner", identify())
        optuna_trial.set_user_attr("seed", seed)
        optuna_trial.set_user_attr("setting", setting)  # set last: without it, the trial counts as not started
        return ClaimedTrial(_to_trial(_frozen(optuna_trial)), optuna_trial)

    def claim_analysis(self) -> bool:
        """Whether the finished trials have not been analysed yet; marks them as analysed."""
        with self.lock:
            finished = [trial.number for trial in self.trials() if trial.status not in (RUNNING, INTERRUPTED)]
            is_new = self.study.user_attrs.get("analysed") != finished
            self.study.set_user_attr("analysed", finished)
            return is_new


def _to_trial(frozen: FrozenTrial) -> Trial:
    """Converts a trial of Optuna."""
    attributes = frozen.user_attrs
    values = frozen.intermediate_values
    if frozen.state.is_finished():
        status = {"COMPLETE": DONE, "PRUNED": PRUNED}.get(frozen.state.name, FAILED)
    else:
        status = RUNNING if is_alive(attributes.get("owner")) else INTERRUPTED
    value = frozen.value if status == DONE else values[max(values)] if values else None
    setting, seed = dict(attributes["setting"]), int(attributes["seed"])
    return Trial(frozen.number, setting, seed, status, value, attributes.get("seconds"), attributes.get("reason"))


def _frozen(optuna_trial: OptunaTrial) -> FrozenTrial:
    """The current state of a trial in the database."""
    return optuna_trial.study.get_trials(deepcopy=False)[optuna_trial.number]


def _open(path: Path, pruner: Pruner | None) -> Study:
    """Opens the study, or creates it."""
    import optuna
    from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = URL.create("sqlite", database=str(path.absolute())).render_as_string()
    storage = RDBStorage(address, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT}})
    optuna_pruner: BasePruner = NopPruner()
    if pruner == "median":
        optuna_pruner = MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_VALIDATIONS + 1)
    elif pruner == "halving":
        optuna_pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.create_study(
        storage=storage, study_name=STUDY, direction="minimize", pruner=optuna_pruner, load_if_exists=True
    )
