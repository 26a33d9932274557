"""A checkpoint that interrupts a run, shared by the tests of everything that resumes."""

import copy


class Interrupted(Exception):
    """What the checkpoint raises."""


class Memory:
    """A checkpoint in memory that stops the run after so many epochs, once."""

    def __init__(self, epochs: int = 1) -> None:
        self.state, self.fractions, self.epochs = None, [], epochs

    def load(self):
        return self.state

    def save(self, state, fraction) -> None:
        self.state = copy.deepcopy(state)
        self.fractions.append(fraction)
        if len(self.fractions) == self.epochs:
            raise Interrupted
