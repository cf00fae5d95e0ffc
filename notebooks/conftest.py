"""nbval, taught three manners of a notebook's front end.

A closing `;` hides a result, an `Output` widget keeps what is shown inside it, and a notebook whose metadata say
`"requires": "cuda"` is left alone where there is no GPU. In everything else nbval stays as strict as it is.
"""

from __future__ import annotations

import nbval.plugin
import pytest
import torch
from nbval.kernel import RunningKernel

SHOWN = {"stream", "display_data", "execute_result", "clear_output", "update_display_data"}


class FrontEnd(RunningKernel):
    """A kernel with someone in front of it."""

    def __init__(self, *args, **kwargs):
        self.captured_by = {}  # Output widget -> the request whose messages it keeps; "" when it lets go
        super().__init__(*args, **kwargs)

    def get_message(self, stream, timeout=None):
        """The next message that reaches the cell: what an Output widget keeps never does, errors always do."""
        while True:
            message = super().get_message(stream, timeout=timeout)
            self._note_capture(message)
            request = message["parent_header"].get("msg_id")
            kept = request is not None and request in self.captured_by.values()
            if not (kept and message["msg_type"] in SHOWN):
                return message

    def _note_capture(self, message):
        """An Output widget announces what it captures by setting its `msg_id`."""
        if message["msg_type"] == "comm_msg":
            state = message["content"]["data"].get("state", {})
            if "msg_id" in state:
                self.captured_by[message["content"]["comm_id"]] = state["msg_id"]

    def execute_cell_input(self, cell_input, allow_stdin=None):
        """With history on, as in Jupyter: without it IPython does not look for the closing `;`."""
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


nbval.plugin.RunningKernel = FrontEnd


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        notebook = getattr(item.parent, "nb", None)
        if notebook is not None and notebook.metadata.get("requires") == "cuda":
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
