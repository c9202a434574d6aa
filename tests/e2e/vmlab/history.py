# SPDX-License-Identifier: Apache-2.0
"""Rules R3 to R6 of the read side, checked over what one subscriber received of one endpoint."""


class HistoryError(Exception):
    pass


class _Checker:
    def __init__(self):
        self.context = None  # epoch of the context held, void or not
        self.told = 0        # newest epoch that was named in any way
        self.valid = False   # whether the context held is to be used

    def memctx(self, event):
        epoch = event["epoch"]
        if epoch < self.told:
            raise HistoryError(f"R4: MEMCTX({epoch}) after epoch {self.told} was named")
        if self.valid and epoch != self.context:
            raise HistoryError(f"R4: MEMCTX({epoch}) while MEMCTX({self.context}) was not void")
        self.context, self.told, self.valid = epoch, epoch, True

    def invalidated(self, event):
        epoch = event["epoch"]
        if epoch < self.told:
            raise HistoryError(f"R4: INVALIDATED({epoch}) after epoch {self.told} was named")
        if self.context is not None and epoch <= self.context:
            raise HistoryError(f"R6: INVALIDATED({epoch}) does not end epoch {self.context}")
        self.told, self.valid = epoch, False

    def state(self, event):
        epoch = event.get("epoch", 0)
        if epoch and epoch < self.told:
            raise HistoryError(f"R3: state of epoch {epoch} after epoch {self.told} was named")


def check(history, endpoint="vm1"):
    """Raises HistoryError. A history without any word about the endpoint breaks R5."""
    checker = _Checker()
    handlers = {"memctx": checker.memctx, "invalidated": checker.invalidated,
                "booting": checker.state, "gone": checker.state, "ready": checker.state,
                "unreachable": checker.state, "panicked": checker.state,
                "moved": checker.state}
    seen = 0
    roots = {}
    for event in history:
        if event.get("endpoint") != endpoint or event["event"] not in handlers:
            continue
        seen += 1
        try:
            handlers[event["event"]](event)
        except HistoryError as error:
            raise HistoryError(f"{error}; history: {history}") from None
        if event["event"] == "memctx":
            root = roots.setdefault(event["epoch"], event["kcr3"])
            if root != event["kcr3"]:
                raise HistoryError(f"two roots in epoch {event['epoch']}; history: {history}")
    if not seen:
        raise HistoryError(f"R5: a subscriber was told nothing of {endpoint}")
