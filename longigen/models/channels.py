"""The channels of a task: which visits of each channel of a subject are given, and which times are generated."""

from collections.abc import Sequence
from dataclasses import dataclass

from longigen.data.preprocess import Prepared
from longigen.models.tasks import Task


@dataclass(frozen=True)
class ChannelTask:
    """One channel of a task; of a subject with one image per visit, the task itself.

    A channel is generated at times after the first given visit that has it: before, there is nothing to go on.

    Attributes:
        prepared: the channel of the subject, with the visits that have it.
        task: the given ones of these visits. Its targets are those that have the channel.
        number: the place of the channel in images.
        whole: the subject.
        given: the task's given visits, as indices among those of `whole`.
        targets: the task's targets of which the channel is generated, as indices among those of `whole`.
    """

    prepared: Prepared
    task: Task
    number: int
    whole: Prepared
    given: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the channel; empty if it is the only one."""
        return self.prepared.subject.channel

    def reaches(self, time: float) -> bool:
        """Return whether the channel is generated at a time."""
        return time > self.prepared.subject.times[self.task.given[0]]

    def has(self, index: int) -> bool:
        """Return whether a visit of `whole` has the channel."""
        return self.whole.has(index)[self.number]


def channel_tasks(prepared: Prepared, task: Task) -> list[ChannelTask]:
    """Return the channels of a task that are generated, in order: those that a given visit has."""
    subject = prepared.subject
    if not subject.channels:
        return [ChannelTask(prepared, task, 0, prepared, task.given, task.targets)]
    found = []
    for channel in prepared.channels:
        name = channel.subject.channel
        number = subject.channels.index(name)
        own = [index for index in range(len(subject.visits)) if prepared.has(index)[number]]
        given = [own.index(index) for index in task.given if index in own]
        if not given:
            continue
        after = [index for index in task.targets if subject.times[index] > channel.subject.times[given[0]]]
        targets = [own.index(index) for index in after if index in own]
        of_channel = Task(tuple(given), tuple(targets))
        found.append(ChannelTask(channel, of_channel, number, prepared, task.given, tuple(after)))
    return found


def channel_names(prepared: Prepared, parts: Sequence[ChannelTask]) -> list[str]:
    """Return the names of a subject's channels that none of the parts is of: they are not generated."""
    generated = {part.name for part in parts}
    return [name for name in prepared.subject.channels if name not in generated]
