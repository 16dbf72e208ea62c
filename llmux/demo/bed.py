"""How a pretended engine sleeps and wakes, as vLLM's sleep mode does."""

from attrs import define, field

from llmux.demo.memory import Amounts, Memory


@define
class Bed:
    """
    What an engine holds, awake and asleep.

    :param memory: its share of the machine.
    :param needs: what it holds while it is awake.
    :param asleep_needs: what it holds at level 1, where the weights are kept; at level 2, nothing.
    :ivar asleep: whether it sleeps.
    """

    memory: Memory
    _needs: Amounts
    _asleep_needs: Amounts
    asleep: bool = field(default=False, init=False)

    def wake(self) -> None:
        """
        Take what it needs.

        :raises NoRoom: if that is not free; it sleeps on.
        """
        self.memory.hold(self._needs)
        self.asleep = False

    def sleep(self, level: int) -> None:
        """
        Give it back.

        :param level: 1 or 2.
        :raises NoRoom: if there is no room for what it keeps; it stays awake.
        """
        self.memory.hold(self._asleep_needs if level == 1 else {})
        self.asleep = True
