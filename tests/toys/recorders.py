"""Trackers that keep what they are told."""

from experiments.stages.trackers.base import Kind


class Recorder:
    """A tracker that keeps what it is told; it fails where ``fails`` says."""

    def __init__(self, about, id, fails=None):
        self.about, self.given, self.fails = about, id, fails
        self.id, self.calls = id or "fresh", []

    def _told(self, *call):
        if self.fails == call[0]:
            raise ConnectionError("no route to the server")
        self.calls.append(call)

    def log(self, update, values):
        self._told("log", update, values)

    def evaluated(self, metrics):
        self._told("evaluated", metrics)

    def close(self, done):
        self._told("close", done)


def kind(started, fails=None):
    """A tracker that needs nothing; those that are started are put into a list."""

    def start(about, id):
        started.append(Recorder(about, id, fails))
        return started[-1]

    return Kind("json", lambda: None, start)
