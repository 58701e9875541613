"""The training loop: what happens when."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import time

import torch
from safetensors.torch import load, save

from ..common.distributed import ALONE_ON_CPU, World, any_rank, broadcast_bytes, mean_over_ranks
from ..common.errors import RunError
from ..common.pictures import enlarged, write_picture
from ..common.randomness import derived_seed
from ..metrics.evaluation import Evaluation
from ..networks import PAIR_PRESETS
from ..options import Options
from ..runs.checkpoints import CorruptCheckpoint
from ..runs.curves import write_curves
from ..runs.folder import RunFolder
from .graphs import WARM_UP as CAPTURED_AFTER
from .graphs import GraphedUpdates
from .schedules import values_at
from .state import TrainingState
from .synthesis import Synthesis
from .translation import Translation

#: iterations before those that are timed for the estimate, and at least so many of these
WARM_UP, TIMED = 2, 3


class Stopped(Exception):
    """The run was told to stop and has saved its state."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class Training:
    """One run, from its first iteration or its newest checkpoint to its last iteration.

    Args:
        options: of the run.
        train_set: the ``ImageSet`` to learn from; a ``PairSet`` for presets of pairs.
        evaluation: None for a run that is not evaluated.
        folder: the run's, on rank 0; None on the others.
        world: the ranks.
        operations: floating-point operations of an iteration, for the estimate, if known.
    """

    def __init__(
        self, options: Options, train_set, evaluation: Evaluation | None, folder: RunFolder | None, world: World,
        operations: float | None = None,
    ):  # fmt: skip
        self.options, self.train_set, self.evaluation = options, train_set, evaluation
        self.folder, self.world, self.operations = folder, world, operations
        self.state = TrainingState(options, len(train_set.class_names), train_set.channels, world)
        task = Translation if options.preset in PAIR_PRESETS else Synthesis
        self.task = task(options, train_set, self.state, world)
        self.updates = GraphedUpdates(self.task.updates) if options.cuda_graphs else self.task.updates
        self.iteration = 0
        self.best: float | None = None
        self.real_distance: float | None = None
        self.last_checkpoint = "none was written yet"
        self.evaluation_seconds = 0.0
        self.loss_names: tuple[str, ...] = ()
        self._recent: list[torch.Tensor] = []
        self._unreported: list[torch.Tensor] = []
        self._statistics_of: int | None = None
        self._stop_signal: int | None = None
        for warning in self.task.warnings():
            self.log(f"warning: {warning}")

    def resume(self) -> None:
        """Continue from the newest usable checkpoint, if any. Raises RunError if there are only unusable ones."""
        found = None
        if self.folder:
            try:
                found = self.folder.checkpoints.newest(self.log, set_aside=True)
            except CorruptCheckpoint as error:
                raise RunError(str(error)) from error
        record = json.loads(broadcast_bytes(json.dumps(found.record if found else None).encode()))
        if record is None:
            if self.folder:
                self.folder.forget_metrics_after(-1)
            return
        tensors = load(broadcast_bytes(save(found.tensors) if found else b""))
        self.state.restore(tensors, record["scalers"])
        self.iteration, self.best = record["iteration"], record["best_distance"]
        if self.folder:
            self.last_checkpoint = str(found.path)
            self.folder.forget_metrics_after(self.iteration)
        self.log(f"resuming at iteration {self.iteration} from {self.last_checkpoint}")

    def run(self) -> None:
        """Train to the last iteration.

        Raises:
            RunError: a loss or a weight is not finite, or a file cannot be written; names the last good checkpoint.
            Stopped: after SIGTERM or SIGINT, with the state saved.
        """
        try:
            with self._listening():
                self._run()
        except OSError as error:
            raise RunError(
                f"iteration {self.iteration}: cannot write {error.filename or 'a file'}: {error.strerror}; "
                f"last good checkpoint: {self.last_checkpoint}"
            ) from error

    def _run(self) -> None:
        options = self.options
        if self.iteration >= options.iterations:
            self.log(f"nothing to do: {self.iteration} iterations are done; give more with --iterations")
            return
        if self.evaluation:
            ((name, self.real_distance),) = self.evaluation.of_images(self.train_set, self.evaluation.ranking).items()
            self.log(f"{name} {self.real_distance:.4f} of the training images")
        if self.iteration == 0:
            self._observe(evaluate=True, sample=True)
        start, first = time.monotonic(), self.iteration
        reported = start
        warm_up = CAPTURED_AFTER + 1 if options.cuda_graphs else WARM_UP
        timed = max(TIMED, options.r1_every // options.d_updates)
        seconds = []
        while self.iteration < options.iterations:
            began = time.monotonic()
            self._recent.append(self.iterate())
            self.iteration += 1
            report, save = self._due(options.log_every), self._due(options.checkpoint_every)
            sample, evaluate = self._due(options.sample_every), self._due(options.eval_every)
            measured = warm_up <= self.iteration - first <= warm_up + timed
            if report or save or sample or evaluate or measured or self.world == ALONE_ON_CPU:
                self._check_losses()  # which waits for the device
            if measured:
                seconds.append(time.monotonic() - began)
                if len(seconds) == timed + 1:
                    self._estimate(sum(seconds[1:]) / timed)
            if report:
                now = time.monotonic()
                remaining = (now - start) / (self.iteration - first) * (options.iterations - self.iteration)
                self._report(now - reported, remaining)
                reported = now
            distance = self._observe(evaluate=evaluate, sample=sample)
            stop = self._stopping(ask_others=report)
            if save or distance is not None or stop is not None:
                self._save(distance)
            if stop is not None and self.iteration < options.iterations:
                self.log(f"saved {self.last_checkpoint}; run the same command again to go on")
                raise Stopped(stop)

    def _due(self, every: int) -> bool:
        """Whether something done every so many iterations, and at the last, is to be done now; 0 for never."""
        return every > 0 and (self.iteration % every == 0 or self.iteration == self.options.iterations)

    def iterate(self) -> torch.Tensor:
        """All updates of one iteration. Returns the losses, one tensor on the device."""
        options, iteration, task = self.options, self.iteration, self.task
        torch.manual_seed(derived_seed(options.seed, "anything else", self.world.rank, iteration))
        first, last = (i * task.batches_per_iteration for i in (iteration, iteration + 1))
        values = values_at(options, iteration)
        self.state.set_rates(values)
        losses = [
            self.updates.discriminator(task.batch(first + update), iteration * options.d_updates + update)
            for update in range(options.d_updates)
        ]
        of_generator = self.updates.generator(task.batch(last - 1))
        self.state.average.update(self.state.generator, values.share)
        means = {name: sum(some[name] for some in losses) / len(losses) for name in losses[0]} | of_generator
        self.loss_names = tuple(means)
        return torch.stack([value.float() for value in means.values()])

    def _check_losses(self) -> None:
        """Fetch the losses from the device; raise RunError at the first that is not finite."""
        losses = mean_over_ranks(torch.stack(self._recent)).cpu()
        first = self.iteration - len(self._recent) + 1
        self._recent.clear()
        for iteration, values in enumerate(losses, first):
            for name, value in zip(self.loss_names, values.tolist(), strict=True):
                if not torch.isfinite(torch.tensor(value)):
                    raise RunError(
                        f"iteration {iteration}: {name} is {value}; last good checkpoint: {self.last_checkpoint}"
                    )
        self._unreported.extend(losses)

    def _report(self, seconds: float, remaining: float) -> None:
        count = len(self._unreported)
        means = dict(zip(self.loss_names, torch.stack(self._unreported).mean(0).tolist(), strict=True))
        self._unreported.clear()
        speed = count * self.options.batch_size * self.task.batches_per_iteration / max(seconds, 1e-9)
        losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.log(
            f"iteration {self.iteration}/{self.options.iterations}  {losses}  {speed:.0f} images/s  "
            f"{_clock(remaining)} left  {_memory(self.world.device) / 2**30:.2f} GiB"
        )
        self._record({**means, "images_per_second": speed})

    def _estimate(self, seconds: float) -> None:
        """Say what the rest of the run will take, from the seconds of an iteration."""
        left = self.options.iterations - self.iteration
        every = self.options.eval_every if self.evaluation else 0
        evaluations = -(-self.options.iterations // every) - self.iteration // every if every else 0
        rate = f", {self.operations / seconds / 1e9:,.1f} GFLOP/s" if self.operations else ""
        evaluating = f" and {evaluations} evaluations of {self.evaluation_seconds:.0f} s" if evaluations else ""
        self.log(
            f"estimate: {_clock(left * seconds + evaluations * self.evaluation_seconds)} for {left:,} iterations of "
            f"{seconds:.3g} s{rate}{evaluating}; {_memory(self.world.device) / 2**30:.2f} GiB so far"
        )

    def _observe(self, *, evaluate: bool, sample: bool) -> float | None:
        """Evaluate the averaged generator and draw its sheet of samples. Returns the distance, if evaluated."""
        evaluate = evaluate and self.evaluation is not None
        if not (evaluate or sample):
            return None
        self._estimate_statistics()
        distance = None
        if evaluate:
            start = time.monotonic()
            values = self.evaluation.of_generator(self.state.average.network)
            self.evaluation_seconds = time.monotonic() - start
            distance = values[self.evaluation.name()]
            self.best = distance if self.best is None else min(self.best, distance)
            self._record(values)
            others = "".join(f"{name} {value:.4f}  " for name, value in values.items() if value is not distance)
            self.log(
                f"iteration {self.iteration}  {self.evaluation.name()} {distance:.4f}  best {self.best:.4f}  {others}"
                f"({self.evaluation_seconds:.0f} s)"
            )
        if self.folder:
            if sample:
                write_picture(self.folder.sample_file(self.iteration), enlarged(self.task.samples()))
            write_curves(self.folder.path / "curves.png", self.folder.read_metrics(), real_distance=self.real_distance)
        return distance

    def _estimate_statistics(self) -> None:
        if self._statistics_of == self.iteration:
            return
        self._statistics_of = self.iteration
        self.task.estimate_statistics()

    def _save(self, distance: float | None) -> None:
        self._estimate_statistics()
        if not self.folder:
            return
        broken = self.state.first_not_finite()
        if broken:
            raise RunError(
                f"iteration {self.iteration}: {broken} is not finite; last good checkpoint: {self.last_checkpoint}"
            )
        record = {
            "distance": distance, "best_distance": self.best,
            "metric": self.evaluation.name() if self.evaluation else None,
            "scalers": self.state.scaler_states(), "moments": self.task.statistics,
        }  # fmt: skip
        self.last_checkpoint = str(self.folder.checkpoints.save(self.iteration, self.state.tensors(), record))

    def _stopping(self, ask_others: bool) -> int | None:
        """The signal that ends the run, if one came; several ranks agree on it whenever progress is reported."""
        if self.world.size == 1:
            return self._stop_signal
        if ask_others and any_rank(self._stop_signal is not None):
            return self._stop_signal or signal.SIGTERM
        return None

    @contextlib.contextmanager
    def _listening(self):
        """SIGTERM and SIGINT end the run after the iteration in progress; a second one ends it at once."""

        def remember(number, frame):
            self._stop_signal = number
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

        before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def log(self, line: str) -> None:
        if self.folder:
            self.folder.log(line)

    def _record(self, values: dict) -> None:
        if self.folder:
            self.folder.append_metrics({"iteration": self.iteration, **values})


def _memory(device: torch.device) -> int:
    """Bytes in use at most so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
